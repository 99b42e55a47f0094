// The dynamic program over few of many candidates: a coarse choice first, then those near the result.
//
// The coarse candidates are quantiles of the occurrences, equal steps, and powers of two from both
// ends. Each later round keeps the boundaries found so far and adds places around them, at a distance
// that shrinks to single candidates, and places that would make a row exactly 2^l values long. The
// cost never rises from one round to the next. Nothing proves the end result optimal; the tests hold
// it against the exact search.
#include "search.hpp"

namespace fewbits {

namespace {

constexpr size_t kQuantiles = 128;
constexpr size_t kSteps = 128;

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

Boundaries coarse_candidates(const Candidates& all, const RowCost& cost, size_t rows) {
  Chooser chooser(all);
  const size_t n = all.last();
  const size_t quantiles = std::max(kQuantiles, rows), steps = std::max(kSteps, rows);
  for (size_t i = 1; i < quantiles; ++i)
    chooser.add(std::lower_bound(all.below.begin(), all.below.end(),
                                 all.below[n] * double(i) / double(quantiles)) -
                all.below.begin());
  for (size_t i = 1; i < steps; ++i) chooser.add(n * i / steps);
  for (size_t power = 1; power < n; power *= 2) {
    chooser.add(power);
    chooser.add(n - power);
  }
  for (int length = 0; length <= 16; ++length) {
    chooser.add(chooser.at_value(all.first[0] + (int64_t{1} << length)));
    chooser.add(chooser.at_value(all.past[n] - (int64_t{1} << length)));
  }
  // The longest rows allowed, one after the other: if any partition obeys the limit, this one does.
  const int64_t longest = int64_t{1} << cost.max_offset_length;
  for (size_t a = 0; a < n;) {
    a = chooser.at_value(all.first[a] + longest);
    chooser.add(a);
  }
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

}  // namespace

Boundaries coarse_search(const Candidates& candidates, const RowCost& cost, size_t rows) {
  const auto search = [&](const Boundaries& chosen) {
    Boundaries found = plain_search(candidates.subset(chosen), cost, rows);
    for (uint32_t& boundary : found) boundary = chosen[boundary];
    return found;
  };
  Boundaries boundaries = search(coarse_candidates(candidates, cost, rows));
  if (boundaries.empty()) return boundaries;
  double size = kInfinity;
  for (size_t step = candidates.last() / 256 + 1;; step = (step + 2) / 3) {
    boundaries = search(nearby_candidates(candidates, boundaries, step));
    const double previous = std::exchange(size, total_cost(candidates, cost, boundaries));
    if (step == 1 && !(size < previous)) return boundaries;
  }
}

}  // namespace fewbits
