// Table search: which rows to cut the value space into, given how often each value occurs.
//
// Twists for a newcomer. A row is a half-open interval of *candidates*, places where a row may
// begin or end, not of values: a tight table (for data that are fully known) has its candidates
// between values that do occur, so that gaps cost no offset bits; a covering table has one before
// every value. A row's cost is that of all its occurrences, in bits. Rows that occur less often
// than one count are charged what such a row really costs, a whole count taken from the others.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace fewbits {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The rows of a table, without counts.
struct Rows {
  std::vector<uint32_t> starts;
  std::vector<uint32_t> offset_lengths;
};

inline int offset_length(uint32_t values) { return std::bit_width(values - 1); }

// log2 of a positive, normal double to about 50 bits, in a third of the library's time: with c the middle of the
// one of 256 intervals in which the mantissa lies and d = mantissa / c - 1, so that |d| < 2^-9, it is
// exponent + log2 c + log2(1 + d), and of the last term's series what is left out is below 2^-54.
class FastLog2 {
 public:
  FastLog2() {
    for (int i = 0; i < 256; ++i) {
      inverse_[i] = 1 / (1 + (i + 0.5) / 256);
      log2_[i] = -std::log2(inverse_[i]);
    }
  }

  double operator()(double x) const {
    constexpr double log2_e = 1.4426950408889634;
    const auto bits = std::bit_cast<uint64_t>(x);
    const size_t i = bits >> 44 & 255;
    const auto mantissa = std::bit_cast<double>((bits & ((uint64_t{1} << 52) - 1)) | uint64_t{1023} << 52);
    const double d = mantissa * inverse_[i] - 1;
    const double log = d * (1 - d * (1. / 2 - d * (1. / 3 - d * (1. / 4 - d * (1. / 5)))));
    return static_cast<double>(static_cast<int>(bits >> 52) - 1023) + (log2_[i] + log * log2_e);
  }

 private:
  double inverse_[256], log2_[256];
};
inline const FastLog2 fast_log2;

// What a row costs: occurrences * (log2(total / occurrences) + stored bits), where the stored bits
// are its offset length, or verbatim_bits for a coder that stores at least so many. Infinite where
// the offset is longer than max_offset_length.
//
// Below rare = total / 2^count_bits occurrences the row still takes one count. Its own values then
// cost count_bits each, and what it takes beyond its share costs the other rows log2(e) an
// occurrence, to first order. That line is the tangent of the entropy term at `rare`, so the whole
// cost is concave in the occurrences, which is what the exact search rests on.
struct RowCost {
  double total;
  double rare;
  int verbatim_bits;
  int max_offset_length;
  // By the same function as the occurrences: a row that holds them all must cost nothing, not a little less,
  // with which a search that goes on while it gains a hundredth would go on for ever.
  double log2_total = total > 0 ? fast_log2(total) : 0;
  double log2_counts = rare > 0 ? std::log2(total / rare) : 0;

  double symbols(double occurrences) const {
    constexpr double log2_e = 1.4426950408889634;
    if (occurrences < rare) return occurrences * log2_counts + (rare - occurrences) * log2_e;
    return occurrences > 0 ? occurrences * (log2_total - fast_log2(occurrences)) : 0;
  }
  double operator()(double occurrences, uint32_t values) const {
    const int length = offset_length(values);
    if (length > max_offset_length) return kInfinity;
    return symbols(occurrences) + occurrences * std::max(length, verbatim_bits);
  }
};

// The places where a row may begin or end, in ascending order. A row from candidate a to candidate
// b holds the values from first[a] up to, not including, past[b].
struct Candidates {
  std::vector<uint32_t> first;
  std::vector<uint32_t> past;
  std::vector<double> below;  // occurrences of all values before this candidate

  size_t last() const { return below.size() - 1; }
  uint32_t values(size_t a, size_t b) const { return past[b] - first[a]; }
  double occurrences(size_t a, size_t b) const { return below[b] - below[a]; }
  double cost(const RowCost& row, size_t a, size_t b) const {
    return row(occurrences(a, b), values(a, b));
  }
  Candidates subset(const std::vector<uint32_t>& kept) const;
};

// A candidate before every value of the space, or only around the values that occur.
Candidates all_candidates(const std::vector<double>& histogram, bool covering);

// Boundaries as indices into the candidates: first 0, last candidates.last(). Empty if no partition
// obeys the limit on offset lengths.
using Boundaries = std::vector<uint32_t>;

// The least cost of covering the first b candidates with exactly k rows, for the b that are looked
// at in layer k of the dynamic program.
struct Layer {
  size_t from;
  std::vector<double> least;

  Layer(size_t from_, size_t to) : from(from_), least(to - from_, kInfinity) {}
  size_t to() const { return from + least.size(); }
};
using Layers = std::vector<Layer>;

// Fills layers 1 and up, each from the one before; layer 0 covers nothing at no cost.
void fill(const Candidates& candidates, const RowCost& cost, Layers& layers);
// The cheapest of the partitions that end in one of the filled layers.
Boundaries walk_back(const Candidates& candidates, const RowCost& cost, const Layers& layers);

// The cheapest partition into at most `rows` rows, by the plain dynamic program, O(rows * n^2).
Boundaries plain_search(const Candidates& candidates, const RowCost& cost, size_t rows);
// The same partition in O(rows * n * log^3 n), for many candidates.
Boundaries exact_search(const Candidates& candidates, const RowCost& cost, size_t rows);
// Nearly the same partition much sooner: coarse candidates first, then those around the boundaries.
Boundaries coarse_search(const Candidates& candidates, const RowCost& cost, size_t rows);

// The same partition but for rounding, in vectors: what packing uses.
Boundaries quick_search(const Candidates& candidates, const RowCost& cost, size_t rows);

// Up to this many candidates the plain program is the fastest of the three.
inline constexpr size_t kPlainCandidates = 512;

// Listing 1 of the APack paper, from a uniform table; row starts, empty rows left out.
std::vector<uint32_t> paper_search(const std::vector<double>& histogram, size_t rows,
                                   int max_offset_length, double threshold, int depth);

}  // namespace fewbits
