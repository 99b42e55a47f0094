// Listing 1 of the APack paper (section VI): from equal rows, move boundaries while it pays.
//
// One pass tries, for every boundary, every place between its two neighbours, and at each place the
// same for the neighbouring boundaries, down to `depth`; the best table seen is where the next pass
// starts. Passes end when one leaves the size above `threshold` of what it was.
//
// The listing cannot run as printed. What is read differently here, and why:
//   - a place is evaluated, and recursed into while depth < DEPTH_MAX (printed the other way round,
//     nothing would ever recurse);
//   - the upward loop ends at the next row's start (the previous one's would let rows overlap);
//   - best size and best table travel together, one pair for all levels (printed, the upward
//     recursion returns into a variable nobody reads, and trysize and try_size are two names of
//     one);
//   - the first row's start stays 0 (moved up, it would uncover values);
//   - a boundary is put back after the upward loop too (or the next one starts from a collapsed
//     row);
//   - a table that improves nothing is not returned in place of the best;
//   - the last boundary ends at VALUE_MAX as printed, so the last row is never empty;
//   - the size is that of real-valued probabilities (rounding them to counts inside the search
//     would make rows of less than half a count free).
//
// Twist: sizes are sums over rows, so moving a boundary changes two terms. The terms of the other
// rows are summed anew for each sweep rather than subtracted: a row over the limit on offset
// lengths costs infinity, and a sweep must be able to leave such a table again.
#include "search.hpp"

namespace fewbits {

namespace {

std::vector<double> cumulate(const std::vector<double>& histogram) {
  std::vector<double> below(1, 0);
  for (double n : histogram) below.push_back(below.back() + n);
  return below;
}

class PaperSearch {
 public:
  PaperSearch(const std::vector<double>& histogram, size_t rows, int max_offset_length, int depth)
      : depth_(depth),
        below_(cumulate(histogram)),
        cost_{below_.back(), 0, 0, max_offset_length},
        least_(1, 0),
        bounds_(rows + 1),
        costs_(rows) {
    for (double n : histogram) least_.push_back(least_.back() + cost_.symbols(n));
    for (size_t row = 0; row <= rows; ++row)
      bounds_[row] = static_cast<uint32_t>(row * histogram.size() / rows);
    refresh();
    best_ = bounds_;
  }

  double best_size() const { return best_size_; }
  const std::vector<uint32_t>& best() const { return best_; }

  void pass() {
    bounds_ = best_;
    refresh();
    for (size_t boundary = 1; boundary < costs_.size(); ++boundary) sweep(boundary, 1);
  }

 private:
  int depth_;
  std::vector<double> below_;
  RowCost cost_;
  std::vector<double> least_;     // entropy of all values below, in bits of the whole
  std::vector<uint32_t> bounds_;  // the table tried: row r is bounds_[r] .. bounds_[r + 1] - 1
  std::vector<double> costs_;     // of its rows
  std::vector<uint32_t> best_;
  double best_size_ = kInfinity;

  double row_cost(uint32_t start, uint32_t end) const {
    return start == end ? 0 : cost_(below_[end] - below_[start], end - start);
  }

  void refresh() {
    double size = 0;
    for (size_t row = 0; row < costs_.size(); ++row)
      size += costs_[row] = row_cost(bounds_[row], bounds_[row + 1]);
    best_size_ = std::min(best_size_, size);
  }

  void sweep(size_t boundary, int depth) {
    const uint32_t saved = bounds_[boundary];
    const uint32_t low = bounds_[boundary - 1];
    const uint32_t high_end = bounds_[boundary + 1];
    const uint32_t high = high_end - (boundary + 1 == costs_.size() ? 1 : 0);
    double others = 0;
    for (size_t row = 0; row < costs_.size(); ++row)
      if (row != boundary - 1 && row != boundary) others += costs_[row];
    // At the last level only these two rows change, and no rows cost less than the entropy of their
    // values; the slack covers rounding.
    const double bound = others + least_[high_end] - least_[low];
    if (depth == depth_ && bound > best_size_ * (1 + 1e-9)) return;
    for (uint32_t at = saved; at-- > low;) move(boundary, at, others, depth);
    for (uint32_t at = saved; at++ < high;) move(boundary, at, others, depth);
    place(boundary, saved);
  }

  void place(size_t boundary, uint32_t at) {
    bounds_[boundary] = at;
    costs_[boundary - 1] = row_cost(bounds_[boundary - 1], at);
    costs_[boundary] = row_cost(at, bounds_[boundary + 1]);
  }

  void move(size_t boundary, uint32_t at, double others, int depth) {
    place(boundary, at);
    const double size = others + costs_[boundary - 1] + costs_[boundary];
    if (size < best_size_) {
      best_size_ = size;
      best_ = bounds_;
    }
    if (depth == depth_) return;
    if (boundary > 1) sweep(boundary - 1, depth + 1);
    if (boundary + 1 < costs_.size()) sweep(boundary + 1, depth + 1);
  }
};

}  // namespace

std::vector<uint32_t> paper_search(const std::vector<double>& histogram, size_t rows,
                                   int max_offset_length, double threshold, int depth) {
  PaperSearch search(histogram, rows, max_offset_length, depth);
  for (double size = kInfinity; search.best_size() < threshold * size;) {
    size = search.best_size();
    search.pass();
  }
  std::vector<uint32_t> starts = search.best();
  starts.pop_back();
  starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
  return starts;
}

}  // namespace fewbits
