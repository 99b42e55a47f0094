// The dynamic program over candidates, plain and coarse-to-fine.
//
// Said (HPL-2004-145; IEEE Trans. Commun. 55(3), 2007) partitions an alphabet into groups by dynamic
// programming; here the groups are intervals, and an offset's length is a whole number of bits. With
// D[k][b] the least cost of covering the candidates up to b with exactly k rows,
//
//   D[0][0] = 0,   D[k][b] = min over a < b of D[k - 1][a] + cost(a, b),
//
// the answer is the least D[k][last] over k. It is the optimum of the real-valued cost because the
// total is fixed, so that a row's cost does not depend on the other rows.
//
// Twist: no back-pointers are kept. The inner loop is then a minimum the compiler can vectorise, and
// walking back repeats one minimum a row.
#include "search.hpp"

namespace fewbits {

namespace {

// D[k][b] for k up to `rows`, with row costs computed once.
Layers plain_layers(const Candidates& candidates, const RowCost& cost, size_t rows) {
  const size_t n = candidates.last();
  std::vector<std::vector<double>> costs(n);  // costs[a][b - a - 1], as far as a row may reach
  for (size_t a = 0; a < n; ++a)
    for (size_t b = a + 1; b <= n; ++b) {
      const double c = candidates.cost(cost, a, b);
      if (c == kInfinity) break;
      costs[a].push_back(c);
    }
  Layers layers(rows + 1, std::vector<double>(n + 1, kInfinity));
  layers[0][0] = 0;
  for (size_t k = 1; k <= rows; ++k)
    for (size_t a = k - 1; a < n; ++a) {
      const double before = layers[k - 1][a];
      if (before == kInfinity) continue;
      double* __restrict out = layers[k].data() + a + 1;
      const double* __restrict row = costs[a].data();
      for (size_t i = 0; i < costs[a].size(); ++i) {
        const double c = before + row[i];
        out[i] = c < out[i] ? c : out[i];
      }
    }
  return layers;
}

}  // namespace

Boundaries walk_back(const Candidates& candidates, const RowCost& cost, const Layers& layers) {
  size_t b = candidates.last(), k = 0;
  for (size_t rows = 1; rows < layers.size(); ++rows)
    if (layers[rows][b] < layers[k][b]) k = rows;
  if (k == 0) return {};
  Boundaries boundaries(k + 1);
  for (boundaries[k] = static_cast<uint32_t>(b); k > 0; --k) {
    double least = kInfinity;
    for (size_t a = k - 1; a < boundaries[k]; ++a) {
      const double before = layers[k - 1][a];
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
  rows = std::min(rows, candidates.last());
  return walk_back(candidates, cost, plain_layers(candidates, cost, rows));
}

}  // namespace fewbits
