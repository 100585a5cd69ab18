// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One rank of a job in which one of the ranks comes to harm; run_chaos.py starts them and says what happens to whom.
//
// usage: chaos RANK NUM_RANKS FOLDER VICTIM ACTION PHASE heap|mapped|device direct|relayed
//
// All ranks connect, bind and run a few times. At PHASE the victim is killed, stops, exits, or leaves in order.
// Whatever the others then see, a run that reports success must have brought every element of that run, and a call that
// fails must say so soon after its deadline. The survivors then connect anew without the victim and must finish two
// runs. Exit status: 0 all as it must be, 1 something was not, with a line on stderr that says what.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "reshard/reshard.h"

namespace {

constexpr std::int64_t kDeadlineUs = 3'000'000;
constexpr double kLatestSeconds = 3 + 4;  // a call that fails ends by then; this machine may be busy with other tests
constexpr int kNumRuns = 4;
constexpr std::int64_t kRows = 96;  // of a matrix whose rows are cut among the ranks that hold it
constexpr std::int64_t kColumns = 4096;

struct Setting {
  int rank = 0;
  int num_ranks = 0;
  std::string folder;
  int victim = 0;
  std::string action;
  std::string phase;
  std::string memory;
  bool is_relayed = false;
};

[[noreturn]] void wrong(const Setting& setting, const std::string& what) {
  std::fprintf(stderr, "rank %d: %s: %s\n", setting.rank, what.c_str(), reshard_last_error());
  std::_Exit(1);
}

/// Harms this process where the setting says so. Leaving in order is left to the caller, who has the handles.
bool comes_to_harm(const Setting& setting, const std::string& phase) {
  if (setting.rank != setting.victim || setting.phase != phase) return false;
  if (setting.action == "kill") raise(SIGKILL);
  if (setting.action == "stop") raise(SIGSTOP);
  if (setting.action == "exit") std::_Exit(0);
  return true;
}

/// The id that the first rank of a round writes for the others.
bool share_id(const Setting& setting, int round, bool is_first, reshard_unique_id_t* id) {
  const std::string path = setting.folder + "/id." + std::to_string(round);
  if (is_first) {
    if (reshard_unique_id_create(nullptr, id) != RESHARD_OK) wrong(setting, "making an id");
    std::ofstream(path + ".new", std::ios::binary).write(id->data, sizeof id->data);
    return std::rename((path + ".new").c_str(), path.c_str()) == 0;
  }
  for (int i = 0; i < 1000; ++i) {
    std::ifstream file(path, std::ios::binary);
    if (file.read(id->data, sizeof id->data)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

/// Rows of ranks 0 and 1 to all ranks whole; where relays are wanted, over hosts of two ranks each.
std::string spec_of(int num_ranks) {
  std::string all;
  for (int rank = 0; rank < num_ranks; ++rank) all += (rank == 0 ? "" : ", ") + std::to_string(rank);
  const std::string shape = "[" + std::to_string(kRows) + ", " + std::to_string(kColumns) + "]";
  return R"({"version": 1, "ranks": )" + std::to_string(num_ranks) +
         R"(, "tensors": [{"name": "w", "group": 0, "shape": )" + shape +
         R"(, "src": {"dtype": "F32", "mesh": {"axes": [["s", 2]], "ranks": [0, 1]}, "placements": [{"shard": 0}]},)" +
         R"("dst": {"dtype": "F32", "mesh": {"axes": [["r", )" + std::to_string(num_ranks) + R"(]], "ranks": [)" + all +
         R"(]}, "placements": ["replicate"]}}]})";
}

float value_of(int round, int run, std::int64_t element) {
  return static_cast<float>((element * 7 + run * 1'000'003 + round * 31) % 16'777'213);
}

/// Memory that peers can map, of the host or of the first device, or of the heap; with an image of it in which values
/// are written and looked at.
class Memory {
 public:
  Memory(const Setting& setting, reshard_comm_t comm, std::size_t count)
      : image(count), comm_(setting.memory == "heap" ? nullptr : comm), setting_(setting) {
    const std::size_t size_bytes = count * sizeof(float);
    if (setting.memory == "device") bound_.memory = RESHARD_MEMORY_CUDA;
    if (setting.memory == "device") bound_.device = 0;
    if (comm_ == nullptr) {
      bound_.ptr = std::malloc(size_bytes + 1);
    } else if (reshard_alloc_on(comm_, bound_.memory, bound_.device, size_bytes, &bound_.ptr) != RESHARD_OK) {
      wrong(setting, "allocating");
    }
    bound_.size_bytes = size_bytes;
  }
  ~Memory() {
    if (comm_ == nullptr)
      std::free(bound_.ptr);
    else
      static_cast<void>(reshard_free(comm_, bound_.ptr));
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  reshard_buffer_t buffer(std::int64_t id) const {
    reshard_buffer_t buffer = bound_;
    buffer.id = id;
    return buffer;
  }
  void publish() const { copy(bound_.ptr, image.data()); }
  void fetch() { copy(image.data(), bound_.ptr); }

  std::vector<float> image;

 private:
  static reshard_buffer_t host_buffer() {
    reshard_buffer_t buffer;
    reshard_buffer_init(&buffer);
    return buffer;
  }
  void copy(void* to, const void* from) const {
    if (reshard_copy(to, from, bound_.size_bytes) != RESHARD_OK) wrong(setting_, "copying");
  }

  reshard_buffer_t bound_ = host_buffer();
  reshard_comm_t comm_;
  const Setting& setting_;
};

/// Measures a call that may fail: it must not take much longer than its deadline.
class Clock {
 public:
  Clock(const Setting& setting, const char* what) : setting_(setting), what_(what) {}
  ~Clock() {
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start_;
    if (taken.count() > kLatestSeconds)
      wrong(setting_, std::string(what_) + " took " + std::to_string(taken.count()) + " s");
  }

 private:
  const Setting& setting_;
  const char* what_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

class Round {
 public:
  Round(const Setting& setting, int number, int rank, int num_ranks)
      : setting_(setting), number_(number), rank_(rank), num_ranks_(num_ranks) {}
  ~Round() {
    reshard_plan_destroy(plan_);
    reshard_machine_destroy(machine_);
    reshard_layout_destroy(dst_);
    reshard_layout_destroy(src_);
  }

  /// Whether all runs were complete. A victim that leaves returns false early.
  bool play() {
    make_plan();
    reshard_unique_id_t id;
    if (!share_id(setting_, number_, rank_ == 0, &id)) wrong(setting_, "the id did not come");
    if (number_ == 0 && comes_to_harm(setting_, "before_comm")) return false;
    reshard_comm_options_t options;
    reshard_comm_options_init(&options);
    options.timeout_us = kDeadlineUs;
    reshard_comm_t comm = nullptr;
    reshard_status_t status = RESHARD_OK;
    {
      const Clock clock(setting_, "connecting");
      status = reshard_comm_create_from_id(&id, rank_, num_ranks_, &options, &comm);
    }
    if (status != RESHARD_OK) return false;
    const bool is_complete = play_with(comm);
    reshard_comm_destroy(comm);
    return is_complete;
  }

 private:
  void make_plan() {
    if (reshard_layout_create_from_spec(spec_of(num_ranks_).c_str(), &src_, &dst_) != RESHARD_OK)
      wrong(setting_, "spec");
    reshard_plan_options_t options;
    reshard_plan_options_init(&options);
    options.staging_bytes = std::int64_t{1} << 19;
    if (setting_.is_relayed) {
      const std::int32_t segment = num_ranks_;
      if (reshard_machine_create("host:ranks=2", 1, &segment, &machine_) != RESHARD_OK) wrong(setting_, "machine");
      options.machine = machine_;
    }
    if (reshard_plan_create(src_, dst_, &options, &plan_) != RESHARD_OK) wrong(setting_, "plan");
  }

  bool play_with(reshard_comm_t comm) {
    if (number_ == 0 && comes_to_harm(setting_, "before_bind")) return false;
    const std::size_t num_rows = rank_ < 2 ? kRows / 2 : 0;
    Memory src(setting_, comm, num_rows * kColumns);
    Memory dst(setting_, comm, kRows * kColumns);
    reshard_binding_t binding = nullptr;
    {
      const Clock clock(setting_, "binding");
      if (bind(comm, src, dst, &binding) != RESHARD_OK) return false;
    }
    bool is_complete = !(number_ == 0 && comes_to_harm(setting_, "after_bind"));
    for (int run = 0; run < (number_ == 0 ? kNumRuns : 2) && is_complete; ++run) {
      is_complete = run_once(binding, run, &src, &dst);
    }
    reshard_binding_destroy(binding);
    return is_complete;
  }

  reshard_status_t bind(reshard_comm_t comm, const Memory& src, const Memory& dst, reshard_binding_t* binding) {
    std::vector<reshard_buffer_t> src_buffers;
    if (rank_ < 2) src_buffers.push_back(src.buffer(buffer_id(src_)));
    const reshard_buffer_t dst_buffer = dst.buffer(buffer_id(dst_));
    reshard_binding_desc_t desc;
    reshard_binding_desc_init(&desc);
    desc.plan = plan_;
    desc.comm = comm;
    desc.num_src_buffers = static_cast<std::int64_t>(src_buffers.size());
    desc.src_buffers = src_buffers.data();
    desc.num_dst_buffers = 1;
    desc.dst_buffers = &dst_buffer;
    desc.timeout_us = kDeadlineUs;
    desc.driver = RESHARD_DRIVER_POLL;  // whose bindings do another run after one that failed
    return reshard_binding_create(&desc, binding);
  }

  std::int64_t buffer_id(reshard_layout_t layout) const {
    reshard_buffer_info_t info;
    reshard_buffer_info_init(&info);
    if (reshard_layout_get_buffer(layout, rank_, 0, &info) != RESHARD_OK) wrong(setting_, "buffer");
    return info.id;
  }

  /// Whether the run was complete, and then right. The values of a run differ from those of every other.
  bool run_once(reshard_binding_t binding, int run, Memory* src, Memory* dst) {
    std::int64_t element = rank_ * (kRows / 2) * kColumns;
    for (float& value : src->image) value = value_of(number_, run, element++);
    src->publish();
    std::memset(dst->image.data(), 0xA5, dst->image.size() * sizeof(float));
    dst->publish();
    if (number_ == 0 && run == 1 && comes_to_harm(setting_, "before_start")) return false;
    if (reshard_binding_start(binding, nullptr) != RESHARD_OK) return false;
    if (number_ == 0 && run == 1 && comes_to_harm(setting_, "after_start")) return false;
    const Clock clock(setting_, "finishing");
    if (number_ == 0 && run == 1 && setting_.phase == "in_run" && setting_.rank == setting_.victim) {
      static_cast<void>(reshard_binding_wait_group(binding, 0, 1000));  // some of the run, then the harm
      if (comes_to_harm(setting_, "in_run")) return false;
    }
    const reshard_status_t status = reshard_binding_finish(binding, kDeadlineUs);
    // Only who is stopped may be alive and so must be waited for.
    if (status == RESHARD_ERR_TIMEOUT && setting_.action != "stop") wrong(setting_, "a lost rank was not told");
    if (status != RESHARD_OK) {
      std::fill(src->image.begin(), src->image.end(), 0.0F);  // as the header allows
      src->publish();
      return false;
    }
    dst->fetch();
    for (std::int64_t i = 0; i < kRows * kColumns; ++i) {
      if (dst->image[static_cast<std::size_t>(i)] != value_of(number_, run, i))
        wrong(setting_, "success with wrong element " + std::to_string(i));
    }
    return true;
  }

  const Setting& setting_;
  const int number_;
  const int rank_;
  const int num_ranks_;
  reshard_layout_t src_ = nullptr;
  reshard_layout_t dst_ = nullptr;
  reshard_machine_t machine_ = nullptr;
  reshard_plan_t plan_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 9) return std::fprintf(stderr, "see the top of chaos.cc\n"), 2;
  const Setting setting = {std::atoi(argv[1]),
                           std::atoi(argv[2]),
                           argv[3],
                           std::atoi(argv[4]),
                           argv[5],
                           argv[6],
                           argv[7],
                           std::string(argv[8]) == "relayed"};
  const bool is_complete = Round(setting, 0, setting.rank, setting.num_ranks).play();
  if (setting.rank == setting.victim) return 0;
  std::printf("rank %d: first round %s\n", setting.rank, is_complete ? "complete" : reshard_last_error());
  const int rank = setting.rank - (setting.rank > setting.victim ? 1 : 0);
  if (!Round(setting, 1, rank, setting.num_ranks - 1).play()) wrong(setting, "the survivors did not recover");
  return 0;
}
