#include "search_plan.hpp"

#include <algorithm>

#include "search_classes.hpp"
#include "elements.hpp"
#include "statistics.hpp"

namespace fewbits {

namespace {

// From this share of one value on, or with no more values than this, the low bits of 16 are not noise.
constexpr double kManyEqual = 0.05;
constexpr size_t kFewValues = 512;
// Cuts are compared on so many elements, in pieces from all over the tensor. Those of more than a byte go by the
// entropy of so many top bits; one must be so much better than the first, in bits.
constexpr size_t kSample = size_t{1} << 14, kPieces = 64;
constexpr int kSampleBits = 9;
constexpr double kLeastGain = 0.02;
constexpr size_t kManyPlaces = 128;
// Bins of rows are counted in every so manieth row, to have about so many elements.
constexpr size_t kBinned = size_t{1} << 19;
// Of large tensors so many elements, and so large a part, tell how often values occur; but those outside the body,
// which this part of all at either end are, are counted one by one, since a table must hold them all. Not where the
// body has more holes than this.
constexpr size_t kCounted = size_t{1} << 17, kCountedPart = 16, kOutside = 1024;
// They are at least so many rows, of long ones so many elements each.
constexpr size_t kCountedRows = 2048, kCountedRow = 512;
constexpr double kHoles = 0.25;

// Whether the low bits of 16-bit values carry about as many bits: then storing them costs little. Not so for small
// integers (few different values) or tensors with many exact zeros.
struct Census {
  size_t total = 0, distinct = 0, most = 0;
  bool noise() const {
    return (distinct > kFewValues || distinct * 3 > total) &&
           static_cast<double>(most) < std::max(kManyEqual * static_cast<double>(total), 2.0);
  }
};

// Counts of 16-bit values, few at a time.
class FewCounts {
 public:
  Census add(const uint16_t* values, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      uint16_t& count = counts_[values[i]];
      if (count++ == 0) seen_.push_back(values[i]);
      census_.most = std::max<size_t>(census_.most, count);
    }
    census_.total += n;
    census_.distinct = seen_.size();
    return census_;
  }

  Histogram take() {
    std::sort(seen_.begin(), seen_.end());
    Histogram result{16, 0, {}, {}, census_.total, census_.most};
    for (const uint16_t value : seen_) {
      result.values.push_back(value);
      result.counts.push_back(counts_[value]);
    }
    return result;
  }

  ~FewCounts() {
    for (const uint16_t value : seen_) counts_[value] = 0;
  }

 private:
  inline static thread_local std::vector<uint16_t> counts_ = std::vector<uint16_t>(1 << 16);
  std::vector<uint16_t> seen_;
  Census census_;
};

int width_of(const Plane& plane) { return plane.bytes ? 8 * plane.bytes : 4; }

// Elements from all over a tensor: all of a small one.
class Sample {
 public:
  Sample(const uint8_t* data, size_t elements, size_t element_bytes, size_t most) {
    constexpr size_t pieces = kPieces;
    const size_t piece = most / pieces, step = elements / pieces;
    if (step <= piece) {
      data_ = data;
      count_ = elements;
      return;
    }
    for (size_t p = 0; p < pieces; ++p) {
      const uint8_t* const from = data + p * step * element_bytes;
      memory_.insert(memory_.end(), from, from + piece * element_bytes);
    }
    data_ = memory_.data();
    count_ = pieces * piece;
  }
  const uint8_t* data() const { return data_; }
  size_t count() const { return count_; }

 private:
  std::vector<uint8_t> memory_;
  const uint8_t* data_;
  size_t count_;
};

// Counts of elements of one byte, as they are, become those of a plane of them.
std::vector<uint64_t> remapped(const std::vector<uint64_t>& bytes, const Plan& plan) {
  const size_t bins = bytes.size() / 256, space = plan.planes[0].bytes ? 256 : 16;
  std::vector<uint64_t> counts(bins * space, 0);
  uint8_t place[256];
  for (size_t v = 0; v < 256; ++v) place[v] = static_cast<uint8_t>(v);
  remap_forward(plan.remap, place, 256);
  for (size_t b = 0; b < bins; ++b)
    for (size_t v = 0; v < 256; ++v) {
      const uint64_t n = bytes[b * 256 + v];
      uint64_t* const own = counts.data() + b * space;
      if (space == 256) {
        own[place[v]] += n;
      } else {
        own[place[v] & 15] += n;
        own[place[v] >> 4] += n;
      }
    }
  return counts;
}

// Values of a plane of some elements.
template <typename Visit>
void each_value16(const Plan& plan, size_t index, const Sample& sample, const Visit& visit) {
  with_element(plan.element_bytes, [&](auto zero) {
    using T = decltype(zero);
    std::vector<T>& elements = scratch<T, Use::elements>(sample.count());
    std::memcpy(elements.data(), sample.data(), sample.count() * sizeof(T));
    plane_loops<T>().remap_forward(plan.remap, elements.data(), elements.size());
    visit(cut<uint16_t>(plan.planes[index], elements));
  });
}

class Chooser {
 public:
  Chooser(const uint8_t* data, size_t elements, const ChoiceSettings& settings)
      : data_(data), elements_(elements), settings_(settings) {}

  size_t best_cut(const std::vector<const Plan*>& cuts) const {
    if (cuts.size() == 1) return 0;
    const auto width = static_cast<size_t>(cuts[0]->element_bytes);
    const Sample sample(data_, elements_, width, kSample);
    std::vector<double> prices;
    if (width == 1) {
      const std::vector<uint64_t> bytes = count_bytes(sample.data(), sample.count(), one_bin(sample.count()));
      for (const Plan* cut : cuts) {
        const std::vector<uint64_t> counts = remapped(bytes, *cut);
        const int bits = width_of(cut->planes[0]);
        const Histogram histogram = Histogram::of(bits, 0, counts.data(), counts.size());
        // No table beats the entropy, and of many values half as many places for boundaries will do to compare.
        PlaneCoder chooser(bits, settings_);
        chooser.price = histogram.entropy() * static_cast<double>(histogram.total);
        if (prices.empty() || chooser.price < prices[least(prices)]) {
          chooser.price = 0;
          chooser.by_group({histogram.values.size() > kManyPlaces ? coarser(histogram, 1) : histogram});
        }
        prices.push_back(chooser.price);
      }
      return least(prices);
    }
    for (const Plan* cut : cuts) {
      const int bits = width_of(cut->planes[0]), kept = std::min(bits, kSampleBits);
      const std::vector<uint64_t> counts =
          coarse_histograms(*cut, 0, sample.data(), sample.count(), std::max<size_t>(1, sample.count()),
                            std::vector<uint8_t>(sample.count() ? 1 : 0), 1, bits - kept, 1);
      prices.push_back(Histogram::of(kept, 0, counts.data(), counts.size()).entropy());
    }
    prices[0] -= kLeastGain;  // the bits below are about the same in all cuts
    return least(prices);
  }

  // Fills in classes and planes.
  void plan(const Plan& plan, Remap folded, size_t row_elements, Choice& choice) {
    const Rows all = one_bin(elements_);
    RowBins bins;
    if (settings_.classes > 1 && !settings_.arithmetic) {
      // Rows are told apart by scale, which shows best where signs are out of the way.
      const bool nibbles = plan.planes[0].bytes == 0;
      const Plan told{plan.element_bytes, nibbles ? plan.remap : folded, plan.planes};
      look_at_top(plan);
      if (told.remap == plan.remap && !nibbles) look_for_body(plan);
      const Body body{static_cast<uint16_t>(body_.low << dropped_),
                      static_cast<uint16_t>(((body_.high + 1) << dropped_) - 1)};
      bins = find_bins(told, data_, elements_, row_elements, has_body_ ? body : Body{});
    } else {
      look_at_top(plan);
    }
    std::vector<uint64_t> top;
    Rows rows = all;
    if (bins.bins() > 1) {
      const Rows by_bin{row_elements, bins.bin_of_row, bins.bins()};
      const size_t enough = has_body_ ? std::max(kCounted, elements_ / kCountedPart) : kBinned;
      const size_t step = std::max<size_t>(
          1, std::min(elements_ / enough, bins.bin_of_row.size() / kCountedRows));
      const bool long_rows = elements_ > enough && bins.bin_of_row.size() >= kCountedRows;
      const size_t most = std::min(row_elements, long_rows ? kCountedRow : row_elements);
      const bool in_part = step > 1 || most < row_elements;
      std::vector<uint64_t> counts = count_top(plan, by_bin, step, most);
      const size_t values = counts.size() / bins.bins();
      const uint64_t share = step * (row_elements / most);
      for (uint64_t& n : counts) n *= share;
      if (has_body_ && in_part) put_outside(bins, values, counts);
      const std::vector<size_t> firsts = cut_bins(bins, counts, values, settings_.classes);
      if (firsts.size() > 1) {
        rows = in_classes(bins, firsts, choice);
        choice.class_of_row = rows.bin_of_row;
      }
      if (!in_part || has_body_) top = merged(counts, values, firsts);
      if (in_part && has_body_) fill_body(bins, rows, values, top);
    }
    if (top.empty()) top = count_top(plan, rows, 1);
    for (size_t p = 0; p < plan.planes.size(); ++p) {
      const int width = width_of(plan.planes[p]);
      PlaneCoder chooser(width, settings_);
      if (p == 0) {
        code_top(top, width, rows.bins, chooser, choice);
      } else {
        code_below(plan, p, rows, chooser, choice);
      }
      choice.price_bits += chooser.price;
      choice.planes.push_back(std::move(chooser.plane));
    }
  }

 private:
  // Rows of elements, and the bin of each.
  struct Rows {
    size_t row_elements;
    std::vector<uint8_t> bin_of_row;
    size_t bins;
  };

  const uint8_t* data_;
  size_t elements_;
  const ChoiceSettings& settings_;
  int dropped_ = 0;   // low bits of the top plane that need not be counted
  bool few_ = false;  // there are so few values of 16 bits that a dense histogram takes longest
  Histogram fewly_;
  bool has_body_ = false;  // values of the top plane, less what is dropped, that nearly all are
  Body body_;

  static Rows one_bin(size_t elements) {
    return {std::max<size_t>(1, elements), std::vector<uint8_t>(elements ? 1 : 0), 1};
  }
  static size_t least(const std::vector<double>& prices) {
    return static_cast<size_t>(std::min_element(prices.begin(), prices.end()) - prices.begin());
  }
  static std::vector<uint64_t> count_bytes(const uint8_t* data, size_t n, const Rows& rows) {
    const Plan whole(1, Remap::identity, {Plane(1, 0, Coder::none, 0, {})});
    return plane_histograms(whole, 0, data, n, rows.row_elements, rows.bin_of_row, rows.bins);
  }

  // A glance at values of 16 bits, to know how to count them.
  void look_at_top(const Plan& plan) {
    if (plan.planes[0].bytes != 2) return;
    few_ = elements_ < kSmall;
    const Sample sample(data_, elements_, static_cast<size_t>(plan.element_bytes), kSmall);
    FewCounts counts;
    each_value16(plan, 0, sample, [&](const std::vector<uint16_t>& values) {
      const bool noise = counts.add(values.data(), values.size()).noise();
      if (noise && !settings_.arithmetic) dropped_ = kNoise;
    });
    if (few_) fewly_ = counts.take();
  }

  // Whether nearly all values of the top plane lie within bounds, close together.
  void look_for_body(const Plan& plan) {
    if (elements_ < 2 * kCounted || (plan.planes[0].bytes == 2 && !dropped_)) return;
    const Sample sample(data_, elements_, static_cast<size_t>(plan.element_bytes), kSample);
    const std::vector<uint64_t> counts = coarse_histograms(
        plan, 0, sample.data(), sample.count(), sample.count(), {0}, 1, dropped_, 1);
    size_t low = 0, high = counts.size() - 1, holes = 0;
    const auto past = [&](size_t& at, int step) {
      for (uint64_t seen = 0; (seen += counts[at]) * kOutside <= sample.count();)
        at = static_cast<size_t>(static_cast<ptrdiff_t>(at) + step);
    };
    past(low, 1);
    past(high, -1);
    for (size_t v = low; v <= high; ++v) holes += counts[v] == 0;
    has_body_ = static_cast<double>(holes) <= kHoles * static_cast<double>(high - low + 1);
    body_ = {static_cast<uint16_t>(low), static_cast<uint16_t>(high)};
  }

  // What is outside the body was counted one by one.
  void put_outside(const RowBins& bins, size_t values, std::vector<uint64_t>& counts) const {
    for (size_t b = 0; b < bins.bins(); ++b) {
      uint64_t* const own = counts.data() + b * values;
      std::fill(own, own + body_.low, 0);
      std::fill(own + body_.high + 1, own + values, 0);
    }
    for (const RareValue& rare : bins.glance.rare)
      ++counts[bins.bin_of_row[rare.row] * values + (rare.value >> dropped_)];
  }

  // Any value of the body, up to the highest in its rows, may occur in a class.
  void fill_body(const RowBins& bins, const Rows& rows, size_t values, std::vector<uint64_t>& counts) const {
    std::vector<uint16_t> highest(rows.bins, 0);
    for (size_t row = 0; row < bins.bin_of_row.size(); ++row) {
      uint16_t& own = highest[rows.bins > 1 ? rows.bin_of_row[row] : 0];
      own = std::max(own, bins.glance.highest[row]);
    }
    for (size_t c = 0; c < rows.bins; ++c)
      for (size_t v = body_.low; v <= size_t{highest[c]} >> dropped_; ++v)
        counts[c * values + v] = std::max<uint64_t>(counts[c * values + v], 1);
  }

  // Occurrences in the top plane, bins x values. Not of few values, for which it returns no counts.
  std::vector<uint64_t> count_top(const Plan& plan, const Rows& rows, size_t step,
                                  size_t most = SIZE_MAX) const {
    if (plan.element_bytes == 1 && step == 1 && most >= rows.row_elements)
      return remapped(count_bytes(data_, elements_, rows), plan);
    if (few_) return {};
    if (dropped_ || step > 1 || most < rows.row_elements)
      return coarse_histograms(plan, 0, data_, elements_, rows.row_elements, rows.bin_of_row, rows.bins,
                               plan.planes[0].bytes == 2 ? kNoise : 0, step, most);
    return plane_histograms(plan, 0, data_, elements_, rows.row_elements, rows.bin_of_row, rows.bins);
  }

  // Classes that begin with these bins; a new kind of low bits begins a group.
  static Rows in_classes(const RowBins& bins, const std::vector<size_t>& firsts, Choice& choice) {
    std::vector<uint8_t> class_of_bin(bins.bins());
    for (size_t c = 0; c < firsts.size(); ++c) {
      for (size_t b = firsts[c]; b < bins.bins(); ++b) class_of_bin[b] = static_cast<uint8_t>(c);
      choice.starts_group.push_back(c == 0 ||
                                    bins.kind_of[firsts[c]] != bins.kind_of[firsts[c - 1]]);
    }
    Rows rows{bins.row_elements, bins.bin_of_row, firsts.size()};
    for (uint8_t& bin : rows.bin_of_row) bin = class_of_bin[bin];
    return rows;
  }

  static std::vector<uint64_t> merged(const std::vector<uint64_t>& counts, size_t values,
                                      const std::vector<size_t>& firsts) {
    std::vector<uint64_t> sums(firsts.size() * values, 0);
    const size_t bins = counts.size() / values;
    for (size_t b = 0, c = 0; b < bins; ++b) {
      while (c + 1 < firsts.size() && firsts[c + 1] <= b) ++c;
      for (size_t v = 0; v < values; ++v) sums[c * values + v] += counts[b * values + v];
    }
    return sums;
  }

  void code_top(const std::vector<uint64_t>& top, int width, size_t classes, PlaneCoder& chooser,
                Choice& choice) const {
    if (few_) {
      choice.entropy_bits += fewly_.entropy();
      chooser.by_group({dropped_ ? coarser(fewly_, dropped_) : fewly_});
      return;
    }
    const size_t values = top.size() / classes;
    std::vector<Histogram> histograms;
    for (size_t c = 0; c < classes; ++c)
      histograms.push_back(Histogram::of(width, dropped_, top.data() + c * values, values));
    const std::vector<uint64_t> sum = merged(top, values, {0});
    const Histogram whole = Histogram::of(width, dropped_, sum.data(), values);
    choice.entropy_bits += whole.entropy() * (width == 4 ? 2 : 1);
    if (classes > 1) chooser.by_class(histograms, whole);
    else chooser.by_group(histograms);
  }

  // Planes below the top one only tell groups of classes apart.
  void code_below(const Plan& plan, size_t p, const Rows& rows, PlaneCoder& chooser,
                  Choice& choice) const {
    std::vector<uint8_t> group_of_class(rows.bins, 0);
    for (size_t c = 1; c < rows.bins; ++c)
      group_of_class[c] = static_cast<uint8_t>(group_of_class[c - 1] + choice.starts_group[c]);
    std::vector<uint8_t> group_of_row = rows.bin_of_row;
    for (uint8_t& bin : group_of_row) bin = group_of_class[bin];
    const size_t groups = group_of_class.back() + size_t{1};
    const std::vector<uint64_t> counts =
        plane_histograms(plan, p, data_, elements_, rows.row_elements, group_of_row, groups);
    const size_t values = counts.size() / groups;
    const int width = width_of(plan.planes[p]);
    std::vector<Histogram> histograms;
    for (size_t g = 0; g < groups; ++g)
      histograms.push_back(Histogram::of(width, 0, counts.data() + g * values, values));
    const std::vector<uint64_t> sum = merged(counts, values, {0});
    choice.entropy_bits += Histogram::of(width, 0, sum.data(), values).entropy();
    chooser.by_group(histograms);
  }
};

}  // namespace

Choice choose(const std::vector<const Plan*>& cuts, Remap folded, const uint8_t* data, size_t elements,
              size_t row_elements, const ChoiceSettings& settings) {
  Choice choice;
  Chooser chooser(data, elements, settings);
  choice.cut = chooser.best_cut(cuts);
  chooser.plan(*cuts[choice.cut], folded, row_elements, choice);
  return choice;
}

}  // namespace fewbits
