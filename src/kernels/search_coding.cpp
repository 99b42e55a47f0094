#include "search_coding.hpp"

#include <algorithm>
#include <initializer_list>
#include <limits>

namespace fewbits {

namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
// Coding that saves less than this share of a plane is not worth its time.
constexpr double kMinSaving = 0.005;
// A slower way to decode (offsets outside the state, more than 12 count bits) must save this much.
constexpr double kMinSavingOfSlow = 0.01;
// So many rows are what the vector kernels take; with more allowed, both are tried.
constexpr size_t kVectorRows = 16;
// From this share of one value on, 8-bit values may want finer counts.
constexpr double kMostlyOne = 0.5;

// What bounds a table, and if it decodes slowly. A spare one is tried only where no other gave a table.
struct Shape {
  int count_bits, longest, verbatim_bits = 0;
  bool slow = false, spare = false;
};

// Shapes to try, those that decode fast first. With rANS, offset bits ride in the state where count bits and they
// make at most 16; 10 to 12 count bits, and no spilling, is what the vector kernels take.
std::vector<Shape> shapes(const Histogram& histogram, const ChoiceSettings& settings) {
  const int longest = histogram.width == 16 ? 15 : 7, asked = settings.count_bits;
  std::vector<Shape> found;
  const auto each_count = [&](std::initializer_list<int> usual, const auto& add) {
    if (asked) add(asked);
    else for (const int bits : usual) add(bits);
  };
  if (settings.arithmetic) {
    each_count({10, 14}, [&](int bits) { found.push_back({bits, longest}); });
    return found;
  }
  if (histogram.width == 16) {
    for (const int verbatim : kVerbatimBits)
      each_count({10, 12}, [&](int bits) {
        const bool spare = !settings.thorough && (verbatim != kNoise || bits != 10);
        found.push_back({bits, std::min(longest, verbatim + 16 - bits), verbatim, bits > 12, spare});
      });
    if (histogram.dropped == 0) found.push_back({asked ? asked : 12, longest, 0, true});
    return found;
  }
  const bool small = histogram.total < kSmall;
  // Where one value has most of the counts, those of the others are small: finer ones pay.
  const bool both = settings.thorough || small ||
                    static_cast<double>(histogram.most) > kMostlyOne * static_cast<double>(histogram.total);
  const auto add = [&](int bits) { found.push_back({bits, std::min(longest, 16 - bits), 0, bits > 12}); };
  if (both) each_count({10, 12}, add);
  else each_count({10}, add);
  if (asked || small) found.push_back({asked ? asked : 15, longest, 0, true});
  return found;
}

// Not all shapes where so many verbatim bits are asked for.
Coding best_coding(const Histogram& histogram, const ChoiceSettings& settings, int verbatim_bits = -1) {
  Coding best{0, nullptr, kInfinite};
  const size_t most = std::min(settings.rows, histogram.total < kTiny    ? kTinyRows
                                              : histogram.total < kSmall ? kSmallRows
                                                                         : settings.rows);
  const size_t fewer = std::min(most, kVectorRows);
  for (const Shape& shape : shapes(histogram, settings)) {
    if (verbatim_bits >= 0 && shape.verbatim_bits != verbatim_bits) continue;
    if (shape.spare && best.table) continue;
    const Histogram own = coarser(histogram, std::min(kNoise, shape.verbatim_bits));
    for (size_t rows = fewer;; rows = most) {
      const PricedTable found = search_table(
          own, {rows, shape.count_bits, shape.longest, shape.verbatim_bits, settings.paper});
      if (found.table && found.bits < best.bits * (1 - kMinSavingOfSlow * shape.slow))
        best = {shape.verbatim_bits, found.table, found.bits};
      if (rows == most) break;
    }
  }
  return best;
}

}  // namespace

Histogram coarser(const Histogram& fine, int dropped) {
  if (dropped <= fine.dropped) return fine;
  Histogram result{fine.width, dropped, {}, {}, fine.total, 0};
  for (size_t i = 0; i < fine.values.size(); ++i) {
    const uint32_t value = fine.values[i] >> (dropped - fine.dropped);
    if (result.values.empty() || result.values.back() != value) {
      result.values.push_back(value);
      result.counts.push_back(0);
    }
    result.counts.back() += fine.counts[i];
    result.most = std::max(result.most, result.counts.back());
  }
  return result;
}

void PlaneCoder::by_class(const std::vector<Histogram>& classes, const Histogram& whole) {
  std::vector<size_t> order(classes.size());
  for (size_t c = 0; c < order.size(); ++c) order[c] = c;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return classes[a].total > classes[b].total; });
  std::vector<Coding> found(classes.size());
  int verbatim_bits = -1;  // as suits the largest class; the same for all
  bool complete = true;
  for (const size_t c : order) {
    found[c] = best_coding(classes[c], settings_, verbatim_bits);
    if (!(complete = found[c].table != nullptr)) break;
    verbatim_bits = found[c].verbatim_bits;
  }
  if (!complete) {
    // A class has few values, far apart. The table of all values can write them, if there is one.
    const Coding all = best_coding(whole, settings_);
    if (!all.table) {
      price = static_cast<double>(whole.total) * width_;
      return;
    }
    for (size_t c = 0; c < classes.size(); ++c) {
      found[c] = best_coding(classes[c], settings_, all.verbatim_bits);
      if (!found[c].table)
        found[c] = {all.verbatim_bits, all.table,
                    coded_bits(*all.table, coarser(classes[c], std::min(kNoise, all.verbatim_bits)),
                               all.verbatim_bits)};
    }
  }
  for (const Coding& coding : found) add(coding);
}

void PlaneCoder::by_group(const std::vector<Histogram>& groups) {
  for (const Histogram& group : groups) {
    const double raw = static_cast<double>(group.total) * width_;
    if (group.values.size() <= 1 && group.dropped == 0) continue;  // blocks of one value take nothing
    if (group.entropy() < width_ * (1 - kMinSaving)) {
      const Coding coding =
          best_coding(group, settings_, plane.tables.empty() ? -1 : plane.verbatim_bits);
      if (coding.bits < raw * (1 - kMinSaving)) {
        add(coding);
        continue;
      }
    }
    price += raw;
  }
}

void PlaneCoder::add(const Coding& coding) {
  plane.coder = settings_.arithmetic ? Coder::arithmetic : Coder::rans;
  plane.verbatim_bits = coding.verbatim_bits;
  plane.tables.push_back(coding.table);
  price += coding.bits;
}

}  // namespace fewbits
