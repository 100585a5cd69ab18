// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Runs with random deadlines between processes, whose sources never change: a success must have brought every element,
// and thousands of failed runs must not make a rank grow.
//
// usage: deadlines NUM_RANKS NUM_RUNS SEED direct|relayed|hopeless|mapped
//
// direct: everything straight from its source; relayed: over hosts of half the ranks each, so that some ranks pass on;
// hopeless: relayed, with deadlines that no run can meet; mapped: as relayed, in memory that ranks read in place, where
// it has landed, too. A rank whose run fails clears its destination at once, as the header allows; the ranks behind it
// must not take the zeros for values. Exit status: 0 all right, 1 not.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <list>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "reshard/reshard.h"

namespace {

constexpr std::int64_t kRows = 64;  // of a matrix whose rows are cut among the first half of the ranks
constexpr std::int64_t kColumns = 4096;
constexpr std::int64_t kElements = kRows * kColumns;
constexpr std::int64_t kStagingBytes = std::int64_t{1} << 18;
constexpr std::int64_t kPatienceUs = 60'000'000;
// A run takes about half as long on two cores.
constexpr std::int64_t kMostDeadlineUs = 6000;
constexpr std::int64_t kMostRelayedUs = 15'000;
constexpr std::int64_t kMostMappedUs = 1'500;

struct Setting {
  int num_ranks = 0;
  int num_runs = 0;
  unsigned seed = 0;
  std::string ways;
};

void must(reshard_status_t status, const char* what) {
  if (status == RESHARD_OK) return;
  std::fprintf(stderr, "%s: %s\n", what, reshard_last_error());
  std::_Exit(1);
}

std::int64_t resident_bytes() {
  std::int64_t pages = 0;
  std::int64_t resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

std::string list_ranks(int first, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += (i == 0 ? "" : ", ") + std::to_string(first + i);
  return "[" + text + "]";
}

/// The first half of the ranks holds a share each, all ranks want the whole.
std::string spec_of(const Setting& setting) {
  const int half = setting.num_ranks / 2;
  const auto side = [](const std::string& mesh, int size, const std::string& ranks, const std::string& placement) {
    return R"({"dtype": "U32", "mesh": {"axes": [[")" + mesh + "\", " + std::to_string(size) + R"(]], "ranks": )" +
           ranks + R"(}, "placements": [)" + placement + "]}";
  };
  return R"({"version": 1, "ranks": )" + std::to_string(setting.num_ranks) +
         R"(, "tensors": [{"name": "w", "group": 0, "shape": [)" + std::to_string(kRows) + ", " +
         std::to_string(kColumns) + R"(], "src": )" + side("s", half, list_ranks(0, half), R"({"shard": 0})") +
         R"(, "dst": )" + side("r", setting.num_ranks, list_ranks(0, setting.num_ranks), "\"replicate\"") + "}]}";
}

std::uint32_t value_of(std::int64_t element) {
  return static_cast<std::uint32_t>(element) * 2'654'435'761U | 1U;  // never 0, which is what a failed rank leaves
}

class Rank {
 public:
  Rank(const Setting& setting, int rank, const reshard_unique_id_t& id) : setting_(setting), rank_(rank) {
    must(reshard_layout_create_from_spec(spec_of(setting).c_str(), &src_, &dst_), "spec");
    reshard_plan_options_t options;
    reshard_plan_options_init(&options);
    options.staging_bytes = kStagingBytes;
    if (setting.ways != "direct") {
      const std::int32_t segment = setting.num_ranks;
      const std::string hosts = "host:ranks=" + std::to_string(setting.num_ranks / 2);
      must(reshard_machine_create(hosts.c_str(), 1, &segment, &machine_), "machine");
      options.machine = machine_;
    }
    must(reshard_plan_create(src_, dst_, &options, &plan_), "plan");
    reshard_comm_options_t comm_options;
    reshard_comm_options_init(&comm_options);
    must(reshard_comm_create_from_id(&id, rank, setting.num_ranks, &comm_options, &comm_), "comm");
    const std::int64_t share = kElements / (setting.num_ranks / 2);
    source_ = take(rank < setting.num_ranks / 2 ? share : 0);
    for (std::size_t i = 0; i < source_.size(); ++i) source_[i] = value_of(rank * share + static_cast<std::int64_t>(i));
    destination_ = take(kElements);
    bind();
  }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;
  ~Rank() {
    reshard_binding_destroy(binding_);
    reshard_comm_destroy(comm_);
    reshard_plan_destroy(plan_);
    reshard_machine_destroy(machine_);
    reshard_layout_destroy(dst_);
    reshard_layout_destroy(src_);
  }

  /// Prints what the runs came to; whether that is right.
  bool play() {
    std::mt19937 random(setting_.seed + static_cast<unsigned>(rank_));
    // One with all the time, so that a rank has met whatever it reads of its peers, and what it grows by later is more
    // than that.
    if (!run_once(kPatienceUs) || last_ != RESHARD_OK) return false;
    std::int64_t resident = 0;
    for (int run = 0; run < setting_.num_runs; ++run) {
      if (!run_once(1 + static_cast<std::int64_t>(random()) % most_deadline_us())) return false;
      if (run == setting_.num_runs / 10) resident = resident_bytes();  // by then everything is there
    }
    const std::int64_t grown = resident_bytes() - resident;
    barrier();
    const bool is_good = run_once(kPatienceUs) && last_ == RESHARD_OK;
    std::printf("rank %d: %d runs, %d complete, %d timed out, %d abandoned, %d other; grew by %lld KiB\n", rank_,
                setting_.num_runs + 2, num_ok_, num_timeout_, num_abandoned_, num_other_,
                static_cast<long long>(grown / 1024));
    if (!is_good) std::fprintf(stderr, "rank %d: the last run, with all the time: %s\n", rank_, reshard_last_error());
    return is_good && num_other_ == 0 && grown < 2 * kStagingBytes;
  }

 private:
  /// Memory as the setting has it, for as long as the comm.
  std::span<std::uint32_t> take(std::int64_t count) {
    if (setting_.ways != "mapped") {
      heap_.emplace_back(static_cast<std::size_t>(count));
      return heap_.back();
    }
    void* memory = nullptr;
    if (count > 0)
      must(reshard_alloc(comm_, static_cast<std::size_t>(count) * sizeof(std::uint32_t), &memory), "alloc");
    return {static_cast<std::uint32_t*>(memory), static_cast<std::size_t>(count)};
  }

  void bind() {
    reshard_buffer_t buffers[2];
    for (reshard_buffer_t& buffer : buffers) reshard_buffer_init(&buffer);
    buffers[0].ptr = source_.data();
    buffers[0].size_bytes = source_.size() * sizeof(std::uint32_t);
    buffers[1].ptr = destination_.data();
    buffers[1].size_bytes = destination_.size() * sizeof(std::uint32_t);
    reshard_binding_desc_t desc;
    reshard_binding_desc_init(&desc);
    desc.plan = plan_;
    desc.comm = comm_;
    desc.src_buffers = &buffers[0];
    desc.num_src_buffers = source_.empty() ? 0 : 1;
    desc.dst_buffers = &buffers[1];
    desc.num_dst_buffers = 1;
    must(reshard_binding_create(&desc, &binding_), "bind");
  }

  std::int64_t most_deadline_us() const {
    if (setting_.ways == "hopeless") return 100;
    if (setting_.ways == "mapped") return kMostMappedUs;
    return setting_.ways == "direct" ? kMostDeadlineUs : kMostRelayedUs;
  }

  void barrier() { must(reshard_comm_allgather(comm_, nullptr, nullptr, 0, kPatienceUs), "barrier"); }

  /// Whether the run, if it was complete, brought what it had to.
  bool run_once(std::int64_t deadline_us) {
    std::memset(destination_.data(), 0, destination_.size() * sizeof(std::uint32_t));
    barrier();
    last_ = reshard_binding_start(binding_, nullptr);
    if (last_ == RESHARD_OK) last_ = reshard_binding_finish(binding_, deadline_us);
    (last_ == RESHARD_OK              ? num_ok_
     : last_ == RESHARD_ERR_TIMEOUT   ? num_timeout_
     : last_ == RESHARD_ERR_ABANDONED ? num_abandoned_
                                      : num_other_) += 1;
    if (last_ != RESHARD_OK) {
      std::memset(destination_.data(), 0, destination_.size() * sizeof(std::uint32_t));
      return true;
    }
    for (std::int64_t i = 0; i < kElements; ++i) {
      if (destination_[static_cast<std::size_t>(i)] == value_of(i)) continue;
      std::fprintf(stderr, "rank %d: success with wrong element %lld\n", rank_, static_cast<long long>(i));
      return false;
    }
    return true;
  }

  const Setting& setting_;
  const int rank_;
  std::list<std::vector<std::uint32_t>> heap_;
  std::span<std::uint32_t> source_;
  std::span<std::uint32_t> destination_;
  reshard_layout_t src_ = nullptr;
  reshard_layout_t dst_ = nullptr;
  reshard_machine_t machine_ = nullptr;
  reshard_plan_t plan_ = nullptr;
  reshard_comm_t comm_ = nullptr;
  reshard_binding_t binding_ = nullptr;
  reshard_status_t last_ = RESHARD_OK;
  int num_ok_ = 0;
  int num_timeout_ = 0;
  int num_abandoned_ = 0;
  int num_other_ = 0;
};

/// The id goes from rank 0 to the others through memory that they share.
int play(const Setting& setting, int rank, reshard_unique_id_t* id, volatile int* is_there) {
  if (rank == 0) {
    must(reshard_unique_id_create(nullptr, id), "id");
    __sync_synchronize();
    *is_there = 1;
  }
  while (*is_there == 0) usleep(1000);
  __sync_synchronize();
  return Rank(setting, rank, *id).play() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return std::fprintf(stderr, "see the top of deadlines.cc\n"), 2;
  const Setting setting{std::atoi(argv[1]), std::atoi(argv[2]), static_cast<unsigned>(std::atoi(argv[3])), argv[4]};
  void* shared = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 2;
  auto* id = static_cast<reshard_unique_id_t*>(shared);
  auto* is_there = reinterpret_cast<volatile int*>(id + 1);
  for (int rank = 0; rank < setting.num_ranks; ++rank) {
    const pid_t pid = fork();
    if (pid < 0) return 2;
    if (pid == 0) {
      const int status = play(setting, rank, id, is_there);
      std::fflush(nullptr);
      std::_Exit(status);
    }
  }
  bool is_good = true;
  for (int rank = 0; rank < setting.num_ranks; ++rank) {
    int status = 0;
    is_good = wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 && is_good;
  }
  return is_good ? 0 : 1;
}
