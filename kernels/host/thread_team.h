// Threads that share the items of loops, for the duration of one call.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace sdtrt {

// A team of threads: the caller's own, and others that end with the team.
class ThreadTeam {
public:
    explicit ThreadTeam(int size) {
        try {
            helpers_.reserve(size_t(std::max(size - 1, 0)));
            for (int n = 1; n < size; ++n) helpers_.emplace_back([this, n] { help(n); });
        } catch (const std::exception&) {
            // The system gives no more threads, or no more memory: the threads that there are do the work.
        }
    }

    ~ThreadTeam() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stops_ = true;
        }
        starts_.notify_all();
        for (std::thread& helper : helpers_) helper.join();
    }

    ThreadTeam(const ThreadTeam&) = delete;
    ThreadTeam& operator=(const ThreadTeam&) = delete;

    int size() const { return int(helpers_.size()) + 1; }

    // Calls work(item, thread) for each item from 0 on, thread being 0 to size() - 1, and waits for all. If one throws,
    // some items may be left out, and the exception is thrown again.
    void for_each(int64_t items, const std::function<void(int64_t, int)>& work) {
        if (helpers_.empty() || items < 2) {
            for (int64_t item = 0; item < items; ++item) work(item, 0);
            return;
        }
        {
            std::lock_guard<std::mutex> lock(mutex_);
            work_ = &work;
            items_ = items;
            next_ = 0;
            busy_ = int(helpers_.size());
            ++round_;
        }
        starts_.notify_all();
        take_items(0);
        spin_until([this] { return busy_ == 0; });
        std::unique_lock<std::mutex> lock(mutex_);
        ends_.wait(lock, [this] { return busy_ == 0; });
        if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    }

private:
    // Waits a little for a condition without giving up the processor: loops follow each other closely.
    template <class Condition>
    static void spin_until(const Condition& condition) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(SPIN_MICROSECONDS);
        while (!condition() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    }

    static constexpr int SPIN_MICROSECONDS = 100;

    void take_items(int thread) {
        try {
            for (int64_t item; (item = next_++) < items_;) (*work_)(item, thread);
        } catch (...) {
            next_ = items_;
            std::lock_guard<std::mutex> lock(mutex_);
            error_ = std::current_exception();
        }
    }

    void help(int thread) {
        for (uint64_t seen = 0;;) {
            spin_until([&] { return stops_ || round_ != seen; });
            {
                std::unique_lock<std::mutex> lock(mutex_);
                starts_.wait(lock, [&] { return stops_ || round_ != seen; });
                if (stops_) return;
                seen = round_;
            }
            take_items(thread);
            std::lock_guard<std::mutex> lock(mutex_);
            if (--busy_ == 0) ends_.notify_one();
        }
    }

    std::vector<std::thread> helpers_;
    std::mutex mutex_;
    std::condition_variable starts_, ends_;
    const std::function<void(int64_t, int)>* work_ = nullptr;
    int64_t items_ = 0;
    std::atomic<int64_t> next_{0};
    std::atomic<int> busy_{0};
    std::atomic<uint64_t> round_{0};
    std::atomic<bool> stops_{false};
    std::exception_ptr error_;
};

}  // namespace sdtrt
