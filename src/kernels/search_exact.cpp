// The dynamic program over all of many candidates, exactly, by divide and conquer.
//
// For one stored length of l bits, cost(a, b) = f(occurrences) + l * occurrences with f concave
// (see RowCost), so for a <= a' <= b <= b'
//
//   cost(a, b') + cost(a', b) <= cost(a, b) + cost(a', b'):
//
// as b grows, the best a never grows. Then the minima over a full rectangle of rows and columns
// follow from the one in its middle by halving, in O((rows + columns) * log) instead of rows *
// columns. Three twists:
//   - the true cost has the least l that is long enough. Trying every l over all rows of *up to*
//     2^l values gives the same minimum, because a longer l only costs more;
//   - "up to 2^l values" and a < b leave of each b's columns an interval that moves up with b, not
//     a rectangle. Halving the columns again and again, each half is used whole by a contiguous run
//     of b (both ends of the interval ascend), and that is a rectangle;
//   - a column whose value is infinite is infinite for every b: it never wins, and never misleads.
#include "search.hpp"

namespace fewbits {

namespace {

// One step D[k - 1] -> D[k] for one stored length.
class Step {
 public:
  Step(const Candidates& candidates, const RowCost& cost, int length)
      : candidates_(candidates),
        cost_(cost),
        stored_bits_(std::max(length, cost.verbatim_bits)),
        lowest_(candidates.last() + 1),
        shorter_(candidates.last() + 1) {
    const uint32_t most = uint32_t{1} << length;
    const uint32_t shorter = length > cost.verbatim_bits ? most / 2 : 0;
    for (uint32_t low = 0, middle = 0, b = 1; b < lowest_.size(); ++b) {
      while (candidates.values(low, b) > most) ++low;
      while (middle < b && candidates.values(middle, b) > shorter) ++middle;
      lowest_[b] = low;
      shorter_[b] = middle;
    }
  }

  void run(const std::vector<double>& before, std::vector<double>& after) {
    before_ = before.data();
    after_ = after.data();
    halve(0, candidates_.last(), 1, candidates_.last() + 1);
  }

 private:
  const Candidates& candidates_;
  const RowCost& cost_;
  double stored_bits_;
  std::vector<uint32_t> lowest_;   // for each b the first a from which a row may reach it
  std::vector<uint32_t> shorter_;  // and the first from which a shorter length would do
  const double* before_ = nullptr;
  double* after_ = nullptr;

  // Columns [low, high) for the b in [from, to), none of which has used them within a larger part.
  void halve(size_t low, size_t high, size_t from, size_t to) {
    // Those b that need any of the columns, then those that may use all of them.
    from = std::max(first_past(shorter_, low, from, to), low + 1);
    to = first_past(lowest_, high - 1, from, to);
    if (from >= to) return;
    const size_t whole_from = std::clamp(high, from, to);
    const size_t whole_to = first_past(lowest_, low, whole_from, to);
    rectangle(low, high, whole_from, whole_to);
    if (high - low == 1) return;
    const size_t middle = (low + high) / 2;
    for (auto [f, t] : {std::pair(from, whole_from), std::pair(whole_to, to)}) {
      halve(low, middle, f, t);
      halve(middle, high, f, t);
    }
  }

  // The first b in [from, to) whose limit is past column a.
  static size_t first_past(const std::vector<uint32_t>& limits, size_t a, size_t from, size_t to) {
    if (from >= to) return to;
    return std::upper_bound(limits.begin() + from, limits.begin() + to, a) - limits.begin();
  }

  // Lower after[b] for b in [from, to) by the columns [low, high), the best of which descend.
  void rectangle(size_t low, size_t high, size_t from, size_t to) {
    if (from >= to) return;
    const size_t b = (from + to) / 2;
    double least = kInfinity;
    size_t best = high;
    for (size_t a = low; a < high; ++a) {
      const double occurrences = candidates_.occurrences(a, b);
      const double c = before_[a] + cost_.symbols(occurrences) + stored_bits_ * occurrences;
      if (c < least) {
        least = c;
        best = a;
      }
    }
    if (best == high) return;  // every column is infinite, for every b
    after_[b] = std::min(after_[b], least);
    rectangle(best, high, from, b);
    rectangle(low, best + 1, b + 1, to);
  }
};

}  // namespace

Boundaries exact_search(const Candidates& candidates, const RowCost& cost, size_t rows) {
  rows = std::min(rows, candidates.last());
  Layers layers(rows + 1, Layer(0, candidates.last() + 1));
  layers[0].least[0] = 0;
  const int longest = std::min(cost.max_offset_length,
                               offset_length(candidates.values(0, candidates.last())));
  std::vector<Step> steps;
  for (int length = std::min(cost.verbatim_bits, longest); length <= longest; ++length)
    steps.emplace_back(candidates, cost, length);
  for (size_t k = 1; k <= rows; ++k)
    for (Step& step : steps) step.run(layers[k - 1].least, layers[k].least);
  return walk_back(candidates, cost, layers);
}

}  // namespace fewbits
