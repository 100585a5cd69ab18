// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A reload in which a trainer is killed: each layer of the servers is new or as it was, every survivor gets a status,
// and soon.
//
// usage: reload_killed [CASES]
//
// Ranks 0 and 1 are trainers, 2 and 3 servers, all processes. In the second run of case c rank 1 dies, once rank 2 has
// committed c layers: before anything moved, or in the middle. Prints how many layers were new.
#include <fcntl.h>
#include <reshard/reshard.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

constexpr int kRanks = 4;
constexpr int kLayers = 8;
constexpr std::int64_t kRows = 64, kColumns = 1024;
constexpr std::int64_t kTimeoutUs = 20'000'000;
constexpr double kLatestSeconds = 10;  // a peer that is dead is known at once; this machine may be busy

[[noreturn]] void wrong(int rank, const std::string& what) {
  std::fprintf(stderr, "rank %d: %s: %s\n", rank, what.c_str(), reshard_last_error());
  std::_Exit(1);
}

void check(int rank, reshard_status_t status, const char* what) {
  if (status != RESHARD_OK) wrong(rank, what);
}

std::string spec() {
  std::string text = R"({"version": 1, "ranks": 4, "tensors": [)";
  for (int l = 0; l < kLayers; ++l) {
    const auto side = [](const char* ranks, const char* placement) {
      return std::string(R"({"dtype": "F32", "mesh": {"axes": [["r", 2]], "ranks": )") + ranks +
             R"(}, "placements": [)" + placement + "]}";
    };
    text += (l == 0 ? "" : ", ") + std::string(R"({"name": "layer)") + std::to_string(l) + R"(", "group": )" +
            std::to_string(l) + R"(, "shape": [64, 1024], "src": )" + side("[0, 1]", R"({"shard": 0})") +
            R"(, "dst": )" + side("[2, 3]", "\"replicate\"") + "}";
  }
  return text + "]}";
}

float value_of(int run, std::int64_t layer, std::int64_t element) {
  return static_cast<float>((run * 8 + layer) * 65'536 + element);  // below 2^24
}

struct Rank {
  int rank = 0;
  int progress = -1;  ///< end of a pipe: rank 2 writes a byte for each layer that it has committed, rank 1 reads it
  std::vector<std::vector<float>> memory;
  std::vector<reshard_buffer_t> buffers;
  reshard_reload_t reload = nullptr;
  bool is_server() const { return rank >= 2; }
};

void list_buffers(Rank* mine, reshard_layout_t layout) {
  mine->memory.resize(kLayers);
  for (int l = 0; l < kLayers; ++l) {
    reshard_buffer_info_t info;
    reshard_buffer_info_init(&info);
    check(mine->rank, reshard_layout_get_buffer(layout, mine->rank, l, &info), "a buffer");
    mine->memory[static_cast<std::size_t>(l)].resize(static_cast<std::size_t>(info.size_bytes) / sizeof(float));
    reshard_buffer_t buffer;
    reshard_buffer_init(&buffer);
    buffer.id = info.id;
    buffer.ptr = mine->memory[static_cast<std::size_t>(l)].data();
    buffer.size_bytes = static_cast<std::size_t>(info.size_bytes);
    mine->buffers.push_back(buffer);
  }
}

void make_reload(Rank* mine, reshard_comm_t comm) {
  reshard_layout_t src = nullptr, dst = nullptr;
  check(mine->rank, reshard_layout_create_from_spec(spec().c_str(), &src, &dst), "layouts");
  reshard_plan_options_t options;
  reshard_plan_options_init(&options);
  options.open_groups = 2;
  options.staging_bytes = 1 << 16;  // many windows, so that there is a middle
  reshard_reload_desc_t desc;
  reshard_reload_desc_init(&desc);
  check(mine->rank, reshard_plan_create(src, dst, &options, &desc.plan), "a plan");
  list_buffers(mine, mine->is_server() ? dst : src);
  desc.comm = comm;
  (mine->is_server() ? desc.num_dst_buffers : desc.num_src_buffers) = kLayers;
  (mine->is_server() ? desc.dst_buffers : desc.src_buffers) = mine->buffers.data();
  check(mine->rank, reshard_reload_create(&desc, &mine->reload), "a reload");
}

void train(Rank* mine, int run) {
  for (std::size_t l = 0; l < kLayers; ++l) {
    std::vector<float>& rows = mine->memory[l];
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rows[i] =
          value_of(run, static_cast<std::int64_t>(l), mine->rank * kRows / 2 * kColumns + static_cast<std::int64_t>(i));
    }
  }
}

reshard_status_t serve(const Rank& mine, bool is_told) {
  for (std::int32_t has_layer = 1; has_layer != 0;) {
    reshard_reload_layer_t layer;
    reshard_reload_layer_init(&layer);
    const reshard_status_t status = reshard_reload_next(mine.reload, kTimeoutUs, &layer, &has_layer);
    if (status != RESHARD_OK) return status;
    if (has_layer == 0) break;
    check(mine.rank, reshard_reload_commit(mine.reload, layer.group, nullptr), "commit");
    if (mine.rank == 2 && is_told && write(mine.progress, "", 1) != 1) wrong(mine.rank, "telling the trainer");
  }
  return RESHARD_OK;
}

/// How many layers are of this run; all others must be those of the run before, whole.
int count_new(const Rank& mine, int run) {
  int num_new = 0;
  for (int l = 0; l < kLayers; ++l) {
    reshard_layer_state_t state = RESHARD_LAYER_TORN;
    check(mine.rank, reshard_reload_get_state(mine.reload, l, &state), "the state of a layer");
    if (state == RESHARD_LAYER_TORN) wrong(mine.rank, "a layer is torn");
    const bool is_new = state == RESHARD_LAYER_COMPLETE;
    const std::vector<float>& memory = mine.memory[static_cast<std::size_t>(l)];
    for (std::size_t i = 0; i < memory.size(); ++i) {
      if (memory[i] == value_of(is_new ? run : run - 1, l, static_cast<std::int64_t>(i))) continue;
      wrong(mine.rank, "layer " + std::to_string(l) + " is not what its state says");
    }
    num_new += is_new ? 1 : 0;
  }
  return num_new;
}

[[noreturn]] void run_rank(const reshard_unique_id_t& id, int rank, int num_layers, int progress) {
  Rank mine;
  mine.rank = rank;
  mine.progress = progress;
  reshard_comm_t comm = nullptr;
  check(rank, reshard_comm_create_from_id(&id, rank, kRanks, nullptr, &comm), "a comm");
  make_reload(&mine, comm);
  for (int run = 0; run < 2; ++run) {
    if (!mine.is_server()) train(&mine, run);
    const auto begin = std::chrono::steady_clock::now();
    check(rank, reshard_reload_start(mine.reload, nullptr), "start");
    if (run == 1 && rank == 1) {
      char told[kLayers];
      for (ssize_t num_told = 0; num_told < num_layers;) {
        check(rank, reshard_reload_poll(mine.reload, nullptr), "poll");
        num_told += std::max<ssize_t>(0, read(mine.progress, told, sizeof told));  // nothing there: -1
      }
      raise(SIGKILL);
    }
    const reshard_status_t served = mine.is_server() ? serve(mine, run == 1) : RESHARD_OK;
    const reshard_status_t status = reshard_reload_finish(mine.reload, kTimeoutUs);
    if ((status == RESHARD_OK) != (run == 0)) wrong(rank, "finish says " + std::to_string(status));
    if (served != RESHARD_OK && run == 0) wrong(rank, "a layer did not come");
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (seconds > kLatestSeconds) wrong(rank, "a status after " + std::to_string(seconds) + " s");
    if (mine.is_server()) {
      const int num_new = count_new(mine, run);
      if (run == 1) std::printf("killed after %d: rank %d has %d new layers\n", num_layers, rank, num_new);
      if (run == 0 && num_new != kLayers) wrong(rank, "not all layers are new");
    }
  }
  std::fflush(stdout);
  std::_Exit(0);  // with a dead peer, nothing is taken down in order
}

/// The id that rank 0 makes, and the others read from a pipe.
reshard_unique_id_t share_id(int rank, const int* ends) {
  reshard_unique_id_t id;
  if (rank == 0) {
    check(rank, reshard_unique_id_create(nullptr, &id), "an id");
    for (int r = 1; r < kRanks; ++r) {
      if (write(ends[1], &id, sizeof id) != static_cast<ssize_t>(sizeof id)) wrong(rank, "writing the id");
    }
  } else if (read(ends[0], &id, sizeof id) != static_cast<ssize_t>(sizeof id)) {
    wrong(rank, "reading the id");
  }
  return id;
}

/// One job; whether all survivors found all as it must be, and the one that is killed was.
bool run_case(int num_layers) {
  int ends[2], progress[2];
  if (pipe(ends) != 0 || pipe2(progress, O_NONBLOCK) != 0) return false;
  std::vector<pid_t> children;
  for (int rank = 0; rank < kRanks; ++rank) {
    const pid_t child = fork();
    if (child < 0) return false;
    if (child == 0) run_rank(share_id(rank, ends), rank, num_layers, progress[rank == 1 ? 0 : 1]);
    children.push_back(child);
  }
  bool is_good = true;
  for (int rank = 0; rank < kRanks; ++rank) {
    int status = 0;
    if (waitpid(children[static_cast<std::size_t>(rank)], &status, 0) < 0) return false;
    const bool was_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    is_good = is_good && (rank == 1 ? was_killed : status == 0);
  }
  for (const int end : {ends[0], ends[1], progress[0], progress[1]}) close(end);
  return is_good;
}

}  // namespace

int main(int argc, char** argv) {
  const int num_cases = argc > 1 ? std::atoi(argv[1]) : 6;
  for (int c = 0; c < num_cases; ++c) {
    if (run_case(c)) continue;
    std::fprintf(stderr, "case %d went wrong\n", c);
    return 1;
  }
  return 0;
}
