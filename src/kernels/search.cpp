// The dynamic program over candidates, plain and coarse-to-fine.
//
// Said (HPL-2004-145; IEEE Trans. Commun. 55(3), 2007) partitions an alphabet into groups by
// dynamic programming; here the groups are intervals, and an offset's length is a whole number of
// bits. With D[k][b] the least cost of covering the candidates up to b with exactly k rows,
//
//   D[0][0] = 0,   D[k][b] = min over a < b of D[k - 1][a] + cost(a, b),
//
// the answer is the least D[k][last] over k. It is the optimum of the real-valued cost because the
// total is fixed, so that a row's cost does not depend on the other rows.
//
// Twist: no back-pointers are kept. The inner loop is then a minimum the compiler can vectorise,
// and walking back repeats one minimum a row.
#include "search.hpp"

namespace fewbits {

namespace {

// The costs of the rows that the layers can use.
class RowCosts {
 public:
  RowCosts(const Candidates& candidates, const RowCost& cost, const Layers& layers)
      : begin_(candidates.last() + 2) {
    std::vector<size_t> needed(candidates.last() + 1, 0);
    for (size_t k = 1; k < layers.size(); ++k)
      for (size_t a = layers[k - 1].from; a < layers[k - 1].to(); ++a)
        needed[a] = std::max(needed[a], layers[k].to());
    for (size_t a = 0; a < needed.size(); ++a) {
      append(candidates, cost, a, needed[a]);
      begin_[a + 1] = costs_.size();
    }
  }

  // Of the rows from candidate a to a + 1, a + 2, ...: as far as any layer needs them, or a row may reach.
  const double* from(size_t a) const { return costs_.data() + begin_[a]; }
  size_t count(size_t a) const { return begin_[a + 1] - begin_[a]; }

 private:
  std::vector<size_t> begin_;
  std::vector<double> costs_;

  // Length by length: the rows from a grow with b, so those of one offset length are neighbours.
  void append(const Candidates& candidates, const RowCost& cost, size_t a, size_t to) {
    const double* const below = candidates.below.data();
    costs_.resize(begin_[a] + (to > a + 1 ? to - a - 1 : 0));
    double* next = costs_.data() + begin_[a];
    size_t b = a + 1;
    for (int length = 0; b < to && length <= cost.max_offset_length; ++length) {
      const double stored_bits = std::max(length, cost.verbatim_bits);
      for (; b < to && candidates.values(a, b) <= 1u << length; ++b) {
        const double occurrences = below[b] - below[a];
        *next++ = cost.symbols(occurrences) + occurrences * stored_bits;
      }
    }
    costs_.resize(static_cast<size_t>(next - costs_.data()));
  }
};

}  // namespace

void fill(const Candidates& candidates, const RowCost& cost, Layers& layers) {
  const RowCosts costs(candidates, cost, layers);
  layers[0].least[0] = 0;
  for (size_t k = 1; k < layers.size(); ++k) {
    const Layer& previous = layers[k - 1];
    for (size_t a = previous.from; a < previous.to(); ++a) {
      const double before = previous.least[a - previous.from];
      const size_t from = std::max(a + 1, layers[k].from);
      const size_t to = std::min(a + 1 + costs.count(a), layers[k].to());
      if (before == kInfinity || from >= to) continue;
      double* __restrict out = layers[k].least.data() + (from - layers[k].from);
      const double* __restrict row = costs.from(a) + (from - a - 1);
      for (size_t i = 0; i < to - from; ++i) {
        const double c = before + row[i];
        out[i] = c < out[i] ? c : out[i];
      }
    }
  }
}

Boundaries walk_back(const Candidates& candidates, const RowCost& cost, const Layers& layers) {
  const size_t last = candidates.last();
  size_t k = 0;
  double least = kInfinity;
  for (size_t rows = 1; rows < layers.size(); ++rows)
    if (layers[rows].to() == last + 1 && layers[rows].least.back() < least) {
      least = layers[rows].least.back();
      k = rows;
    }
  if (k == 0) return {};
  Boundaries boundaries(k + 1);
  for (boundaries[k] = static_cast<uint32_t>(last); k > 0; --k) {
    const Layer& previous = layers[k - 1];
    least = kInfinity;
    for (size_t a = previous.from; a < std::min<size_t>(previous.to(), boundaries[k]); ++a) {
      const double before = previous.least[a - previous.from];
      if (before >= least) continue;
      const double c = before + candidates.cost(cost, a, boundaries[k]);
      if (c < least) {
        least = c;
        boundaries[k - 1] = static_cast<uint32_t>(a);
      }
    }
  }
  return boundaries;
}

Candidates Candidates::subset(const std::vector<uint32_t>& kept) const {
  Candidates result;
  for (uint32_t i : kept) {
    result.first.push_back(first[i]);
    result.past.push_back(past[i]);
    result.below.push_back(below[i]);
  }
  return result;
}

Candidates all_candidates(const std::vector<double>& histogram, bool covering) {
  Candidates result;
  const auto space = static_cast<uint32_t>(histogram.size());
  uint32_t past = 0;
  double below = 0;
  for (uint32_t value = 0; value < space; ++value) {
    if (!covering && histogram[value] == 0) continue;
    result.first.push_back(value);
    result.past.push_back(covering ? value : past);
    result.below.push_back(below);
    below += histogram[value];
    past = value + 1;
  }
  result.first.push_back(space);
  result.past.push_back(past);
  result.below.push_back(below);
  return result;
}

Boundaries plain_search(const Candidates& candidates, const RowCost& cost, size_t rows) {
  const size_t last = candidates.last();
  Layers layers{{0, 1}};
  for (size_t k = 1; k <= std::min(rows, last); ++k) layers.emplace_back(k, last + 1);
  fill(candidates, cost, layers);
  return walk_back(candidates, cost, layers);
}

}  // namespace fewbits
