#include "parallel.hpp"

#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace fewbits {

namespace {

std::atomic<Team> team{nullptr};
thread_local bool apart = false;

}  // namespace

void set_team(Team other) { team.store(other); }

void work_apart() { apart = true; }

void parallel_for(size_t n, int threads, const std::function<void(size_t)>& work) {
  std::atomic<size_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto drain = [&] {
    try {
      for (size_t i; (i = next.fetch_add(1)) < n;) work(i);
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
      next.store(n);
    }
  };
  const size_t most = std::min<size_t>(n, static_cast<size_t>(std::max(threads, 1)));
  if (const Team others = apart ? nullptr : team.load(); others && most > 1) {
    using Drain = decltype(drain);
    others([](void* data) { (*static_cast<const Drain*>(data))(); },
           const_cast<void*>(static_cast<const void*>(&drain)), static_cast<unsigned>(most), 0);
  } else {
    std::vector<std::thread> helpers;
    try {
      for (size_t t = 1; t < most; ++t) helpers.emplace_back(drain);
    } catch (const std::system_error&) {
      // The system gives no more threads; those that there are do the work.
    }
    drain();
    for (auto& helper : helpers) helper.join();
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace fewbits
