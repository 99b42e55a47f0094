// The dynamic program over few of many candidates: a coarse choice, then those near the result.
//
// The coarse candidates are quantiles of the occurrences, equal steps, and powers of two from both
// ends. Each later round keeps the boundaries found so far and adds places around them, at a
// distance that shrinks to single candidates, and places that would make a row exactly 2^l values
// long. The cost never rises from one round to the next. Nothing proves the end result optimal; the
// tests hold it against the exact search.
#include <numeric>

#include "search.hpp"

namespace fewbits {

namespace {

// Of the coarse candidates; at least two quantiles and one peak for each row. Twice as many of each, and of the
// neighbours, take twice as long and save 0.002 %.
constexpr size_t kQuantiles = 64;
constexpr int64_t kSteps = 128;
constexpr size_t kPeaks = 16;
constexpr size_t kNeighbours = 2;     // see move_boundaries
constexpr double kWorthwhile = 1e-6;  // a last round that gains less, relatively, ends the search

class Chooser {
 public:
  explicit Chooser(const Candidates& all) : all_(all) {}

  void add(int64_t candidate) {
    if (candidate > 0 && candidate < static_cast<int64_t>(all_.last()))
      chosen_.push_back(static_cast<uint32_t>(candidate));
  }
  // The first candidate from which a row starts at `value` or later.
  int64_t at_value(int64_t value) const {
    return std::lower_bound(all_.first.begin(), all_.first.end(), std::max<int64_t>(value, 0)) -
           all_.first.begin();
  }
  Boundaries take() {
    chosen_.push_back(0);
    chosen_.push_back(static_cast<uint32_t>(all_.last()));
    std::sort(chosen_.begin(), chosen_.end());
    chosen_.erase(std::unique(chosen_.begin(), chosen_.end()), chosen_.end());
    return std::exchange(chosen_, {});
  }

 private:
  const Candidates& all_;
  Boundaries chosen_;
};

// Both sides of the values that occur most: what a row of a single value is for.
void add_peaks(const Candidates& all, size_t rows, Chooser& chooser) {
  std::vector<uint32_t> heaviest(all.last());
  std::iota(heaviest.begin(), heaviest.end(), 0);
  const size_t kept = std::min(std::max(kPeaks, rows), heaviest.size());
  std::partial_sort(heaviest.begin(), heaviest.begin() + kept, heaviest.end(),
                    [&](uint32_t i, uint32_t j) {
                      return all.occurrences(i, i + 1) > all.occurrences(j, j + 1);
                    });
  for (size_t i = 0; i < kept; ++i) {
    chooser.add(heaviest[i]);
    chooser.add(heaviest[i] + 1);
  }
}

Boundaries coarse_candidates(const Candidates& all, const RowCost& cost, size_t rows) {
  Chooser chooser(all);
  const size_t n = all.last();
  const size_t quantiles = std::max(kQuantiles, 2 * rows);
  for (size_t i = 1; i < quantiles; ++i)
    chooser.add(std::lower_bound(all.below.begin(), all.below.end(),
                                 all.below[n] * double(i) / double(quantiles)) -
                all.below.begin());
  const int64_t low = all.first[0], span = all.past[n] - low;
  for (int64_t i = 1; i < kSteps; ++i) chooser.add(chooser.at_value(low + span * i / kSteps));
  for (int64_t power = 1; power < span; power *= 2) {
    chooser.add(chooser.at_value(low + power));
    chooser.add(chooser.at_value(low + span - power));
  }
  add_peaks(all, rows, chooser);
  // The longest rows allowed, one after the other: if any partition obeys the limit, this one does.
  const int64_t longest = int64_t{1} << cost.max_offset_length;
  for (size_t a = 0; a < n; chooser.add(a)) a = chooser.at_value(all.first[a] + longest);
  return chooser.take();
}

Boundaries nearby_candidates(const Candidates& all, const Boundaries& boundaries, size_t step) {
  Chooser chooser(all);
  for (size_t row = 0; row + 1 < boundaries.size(); ++row) {
    const uint32_t a = boundaries[row], b = boundaries[row + 1];
    for (int64_t i = -4; i <= 4; ++i) chooser.add(a + i * int64_t(step));
    const int length = offset_length(all.values(a, b));
    for (int l = std::max(0, length - 2); l <= length + 1; ++l) {
      chooser.add(chooser.at_value(all.first[a] + (int64_t{1} << l)));
      chooser.add(chooser.at_value(all.past[b] - (int64_t{1} << l)));
    }
  }
  return chooser.take();
}

double total_cost(const Candidates& candidates, const RowCost& cost, const Boundaries& boundaries) {
  double size = 0;
  for (size_t row = 0; row + 1 < boundaries.size(); ++row)
    size += candidates.cost(cost, boundaries[row], boundaries[row + 1]);
  return size;
}

// The search over the chosen candidates, which include the boundaries, when the k-th boundary may
// only go as far as its neighbours kNeighbours away are now. That is what keeps many rows quick:
// time grows with the rows, not with their cube.
Boundaries move_boundaries(const Candidates& all, const RowCost& cost, const Boundaries& chosen,
                           const Boundaries& boundaries, size_t rows) {
  std::vector<size_t> places;
  for (uint32_t boundary : boundaries)
    places.push_back(std::lower_bound(chosen.begin(), chosen.end(), boundary) - chosen.begin());
  Layers layers{{0, 1}};
  for (size_t k = 1; k <= std::min(rows, chosen.size() - 1); ++k) {
    const size_t low = k > kNeighbours ? std::min(k - kNeighbours, places.size() - 1) : 0;
    const size_t high = std::min(k + kNeighbours, places.size() - 1);
    layers.emplace_back(places[low], places[high] + 1);
  }
  const Candidates some = all.subset(chosen);
  fill(some, cost, layers);
  return walk_back(some, cost, layers);
}

Boundaries lookup(const Boundaries& chosen, Boundaries places) {
  for (uint32_t& place : places) place = chosen[place];
  return places;
}

}  // namespace

Boundaries coarse_search(const Candidates& candidates, const RowCost& cost, size_t rows) {
  Boundaries chosen = coarse_candidates(candidates, cost, rows);
  Boundaries found = lookup(chosen, plain_search(candidates.subset(chosen), cost, rows));
  if (found.empty()) return found;
  double size = kInfinity;
  // Steps are powers of two so that many boundaries can shift together, each row keeping its
  // length.
  size_t step = std::bit_floor(candidates.last() / 128);
  for (;; step = std::max<size_t>(1, step / 2)) {
    chosen = nearby_candidates(candidates, found, step);
    found = lookup(chosen, move_boundaries(candidates, cost, chosen, found, rows));
    const double previous = std::exchange(size, total_cost(candidates, cost, found));
    if (step == 1 && size >= previous * (1 - kWorthwhile)) return found;
  }
}

}  // namespace fewbits
