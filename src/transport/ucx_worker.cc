// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// UCX's objects and everything that is odd about them in one place: settings, logs, connections, waiting. It knows
// ranks and addresses and nothing of messages; those are in ucx.cc.
#include "src/transport/ucx_worker.h"

#include <fmt/core.h>
#include <poll.h>
#include <sched.h>
#include <ucs/config/global_opts.h>
#include <ucs/debug/log_def.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <utility>

#include "src/base/bytes.h"
#include "src/transport/ucx_address.h"

namespace reshard {
namespace {

// What `print` writes to a stream.
template <typename Print>
std::string printed(const Print& print) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* stream = open_memstream(&text, &size);
  if (stream == nullptr) return {};
  print(stream);
  std::fclose(stream);
  std::string all(text, size);
  std::free(text);
  return all;
}

// The text of a UCX setting, e.g. "auto", as `print` writes it with all others: "UCX_NAME=value" line by line. This
// respects UCX's own sources (variables and files) without reading them again.
template <typename Print>
std::string setting(const std::string& name, const Print& print) {
  const std::string all = "\n" + printed(print);
  const std::string key = "\nUCX_" + name + "=";
  const std::size_t begin = all.find(key);
  if (begin == std::string::npos) return {};
  return all.substr(begin + key.size(), all.find('\n', begin + 1) - begin - key.size());
}

// A count, so that one mute within another does no harm.
thread_local int num_mutes = 0;

ucs_log_func_rc_t log_to_stderr(const char*, unsigned, const char*, ucs_log_level_t, const ucs_log_component_config_t*,
                                const char* message, va_list arguments) {
  if (num_mutes > 0) return UCS_LOG_FUNC_RC_STOP;
  char line[1024];
  std::vsnprintf(line, sizeof(line), message, arguments);
  std::fprintf(stderr, "UCX: %s\n", line);
  return UCS_LOG_FUNC_RC_STOP;
}

// UCX logs to stdout unless told otherwise; stdout belongs to the program.
void keep_log_from_stdout() {
  static std::once_flag once;
  std::call_once(once, [] {
    const auto print = [](std::FILE* stream) { ucs_global_opts_print(stream, UCS_CONFIG_PRINT_CONFIG); };
    if (setting("LOG_FILE", print).empty()) ucs_log_push_handler(log_to_stderr);
  });
}

struct ReleaseConfig {
  void operator()(ucp_config_t* config) const { ucp_config_release(config); }
};
using Config = std::unique_ptr<ucp_config_t, ReleaseConfig>;

// UCX's defaults and the user's settings (variables, files) hold, but for two: the threshold, where he has chosen none,
// and the devices, where the caller names some.
Result<Config> read_config(const std::string& net_devices) {
  ucp_config_t* raw = nullptr;
  if (ucs_status_t status = ucp_config_read(nullptr, nullptr, &raw); status != UCS_OK) {
    return ucx_error("UCX could not read its configuration", status);
  }
  Config config(raw);
  const auto print = [raw](std::FILE* stream) { ucp_config_print(raw, stream, nullptr, UCS_CONFIG_PRINT_CONFIG); };
  // From here on a send needs its receive: nothing larger is buffered where nobody waits for it.
  const std::string chosen = setting("RNDV_THRESH", print);
  if (chosen == "auto" || chosen == "intra:auto,inter:auto") {  // nothing chosen, as old and new UCX write it
    const std::string threshold = std::to_string(Transport::kMaxEagerBytes);
    if (ucs_status_t status = ucp_config_modify(raw, "RNDV_THRESH", threshold.c_str()); status != UCS_OK) {
      return ucx_error("UCX did not take UCX_RNDV_THRESH=" + threshold, status);
    }
  }
  if (!net_devices.empty()) {
    if (ucs_status_t status = ucp_config_modify(raw, "NET_DEVICES", net_devices.c_str()); status != UCS_OK) {
      return ucx_error("UCX did not take the network devices " + net_devices, status);
    }
  }
  return config;
}

// The resources of a context, each at the end of a line, as " transport/device".
std::string list_resources(ucp_context_h context) {
  return printed([context](std::FILE* stream) { ucp_context_print_info(context, stream); }) + "\n";
}

// UCX only warns of devices that it has not got, and goes on with shared memory alone.
Status check_net_devices(const std::string& resources, const std::string& net_devices) {
  for (std::size_t begin = 0; begin < net_devices.size();) {
    const std::size_t end = std::min(net_devices.find(',', begin), net_devices.size());
    if (resources.find("/" + net_devices.substr(begin, end - begin) + "\n") != std::string::npos) return {};
    begin = end + 1;
  }
  return invalid_argument(
      fmt::format("UCX has none of the network devices {}; `ucx_info -d` lists those it has, and "
                  "UCX_TLS must leave a transport for them",
                  net_devices));
}

/// What two processes have in common when they can share memory and copy from each other: the running kernel, and the
/// namespaces that shared segments and process ids are looked up in.
std::string neighbourhood() {
  std::string text;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), text);
  for (const char* path : {"/proc/self/ns/ipc", "/proc/self/ns/pid"}) {
    char target[64];
    const ssize_t size = readlink(path, target, sizeof(target));
    text += " " + std::string(target, size > 0 ? static_cast<std::size_t>(size) : 0);
  }
  return text;
}

void init_slot(void* request) {
  *static_cast<UcxSlot*>(request) = {};
}

}  // namespace

UcxLogMute::UcxLogMute() {
  ++num_mutes;
}
UcxLogMute::~UcxLogMute() {
  --num_mutes;
}

Status ucx_error(const std::string& what, ucs_status_t status) {
  const bool memory = status == UCS_ERR_NO_MEMORY;
  return {memory ? RESHARD_ERR_OUT_OF_MEMORY : RESHARD_ERR_TRANSPORT,
          fmt::format("{}: {}", what, ucs_status_string(status))};
}

Result<std::unique_ptr<UcxWorker>> UcxWorker::create(std::int32_t num_ranks, const std::string& net_devices) {
  std::unique_ptr<UcxWorker> worker(new UcxWorker);
  RESHARD_TRY(worker->init(num_ranks, net_devices));
  return worker;
}

Status UcxWorker::init_context(std::int32_t num_ranks, const std::string& net_devices) {
  keep_log_from_stdout();
  RESHARD_TRY(const Config config, read_config(net_devices));
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_REQUEST_SIZE | UCP_PARAM_FIELD_REQUEST_INIT |
                      UCP_PARAM_FIELD_ESTIMATED_NUM_EPS | UCP_PARAM_FIELD_NAME;
  // Messages; keys of memory; an event descriptor to sleep on.
  params.features = UCP_FEATURE_TAG | UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP;
  params.request_size = sizeof(UcxSlot);
  params.request_init = init_slot;
  params.estimated_num_eps = static_cast<std::size_t>(num_ranks);
  params.name = "reshard";
  if (ucs_status_t status = ucp_init(&params, config.get(), &context_); status != UCS_OK) {
    return ucx_error("UCX could not start; check UCX_TLS and UCX_NET_DEVICES", status);
  }
  ucp_context_attr_t attributes{};
  attributes.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES;
  if (ucs_status_t status = ucp_context_query(context_, &attributes); status != UCS_OK) {
    return ucx_error("UCX did not say which memory it moves", status);
  }
  // More than that of the host only where UCX was built with CUDA and finds a device.
  memory_types_ = attributes.memory_types;
  const std::string resources = list_resources(context_);
  for (const char* verbs : {" rc_", " dc_", " ud_"}) {
    if (resources.find(verbs) != std::string::npos) has_only_tcp_ = false;
  }
  for (const char* shared : {" posix/", " sysv/"}) {
    if (resources.find(shared) != std::string::npos) has_shared_memory_ = true;
  }
  for (const char* copying : {" cma/", " knem/", " xpmem/"}) {
    if (resources.find(copying) != std::string::npos) has_single_copy_ = true;
  }
  return net_devices.empty() ? Status() : check_net_devices(resources, net_devices);
}

Status UcxWorker::init(std::int32_t num_ranks, const std::string& net_devices) {
  RESHARD_TRY(init_context(num_ranks, net_devices));
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  // Several threads, one at a time: Transport::turn() sees to it, so that UCX need not lock for it.
  params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  if (ucs_status_t status = ucp_worker_create(context_, &params, &worker_); status != UCS_OK) {
    return ucx_error("UCX could not create a worker; check UCX_TLS, UCX_NET_DEVICES and the size of /dev/shm", status);
  }
  if (ucs_status_t status = ucp_worker_get_efd(worker_, &event_fd_); status != UCS_OK) {
    return ucx_error("UCX gave no event descriptor", status);
  }
  peers_.resize(static_cast<std::size_t>(num_ranks));
  return {};
}

// The endpoints are not closed one by one: that would need the peers, and they may be gone. The worker takes them
// along.
UcxWorker::~UcxWorker() {
  const UcxLogMute mute;
  if (worker_ != nullptr) ucp_worker_destroy(worker_);
  if (context_ != nullptr) ucp_cleanup(context_);
}

Result<Blob> UcxWorker::address() const {
  ucp_address_t* address = nullptr;
  std::size_t size_bytes = 0;
  if (ucs_status_t status = ucp_worker_get_address(worker_, &address, &size_bytes); status != UCS_OK) {
    return ucx_error("UCX gave no worker address", status);
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(address);
  ByteWriter writer;
  // An empty one equals no other's: without shared memory every peer counts as far.
  writer.add(has_shared_memory_ ? neighbourhood() : std::string());
  writer.add(Blob(bytes, bytes + size_bytes));
  writer.add(static_cast<std::int64_t>(memory_types_));
  ucp_worker_release_address(worker_, address);
  return seal_address(writer.take());
}

Status UcxWorker::connect(const std::vector<Blob>& addresses, std::int32_t rank, const Deadline& deadline) {
  const std::string here = has_shared_memory_ ? neighbourhood() : std::string();
  common_memory_types_ = memory_types_;
  for (const RankId peer : peers_.ids()) {
    RESHARD_TRY(const Blob opened, open_address(addresses[peer.position()], peer));
    ByteReader reader(opened);
    const bool shares_memory = reader.text() == here && !here.empty();
    peers_[peer].is_near = shares_memory || peer == rank;
    peers_[peer].address = reader.blob();
    common_memory_types_ &= static_cast<std::uint64_t>(reader.number());
    if (reader.ok() && !peers_[peer].address.empty()) continue;
    return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent a malformed address", RankId::Value(peer))};
  }
  // More peers than this are connected when they are first used, to spare the descriptors of all-to-all connections.
  constexpr std::size_t kMostConnectedAtOnce = 256;
  for (const RankId peer : indices<RankId>(peers_.size() <= kMostConnectedAtOnce ? peers_.size() : 0)) {
    auto connected = endpoint(peer);
    if (!connected.ok()) return connected.take_status();
  }
  if (flush(deadline)) return {};
  return {RESHARD_ERR_TIMEOUT, fmt::format("UCX did not connect to all ranks within {} us", deadline.timeout_us())};
}

Result<ucp_ep_h> UcxWorker::endpoint(std::int32_t peer) {
  Peer& entry = peers_[RankId(peer)];
  if (entry.endpoint != nullptr) return entry.endpoint;
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS;
  params.address = reinterpret_cast<const ucp_address_t*>(entry.address.data());
  if (ucs_status_t status = ucp_ep_create(worker_, &params, &entry.endpoint); status != UCS_OK) {
    entry.endpoint = nullptr;
    return ucx_error(fmt::format("UCX cannot reach rank {}; check that UCX_TLS and UCX_NET_DEVICES are the same on all "
                                 "ranks",
                                 peer),
                     status);
  }
  return entry.endpoint;
}

bool UcxWorker::progress() {
  if (ucp_worker_progress(worker_) == 0) return false;
  num_idle_ = 0;
  return true;
}

void UcxWorker::idle() {
  // Peers on the same host need our core to answer, so it is given to them before a sleep, which costs a wake-up.
  constexpr int kYields = 100;
  if (++num_idle_ <= kYields) {
    sched_yield();
    return;
  }
  // Arming comes before the sleep and fails when something has come since: so no event is slept through.
  if (ucp_worker_arm(worker_) != UCS_OK) return;  // an event is there already
  pollfd entry{event_fd_, POLLIN, 0};
  poll(&entry, 1, 1);
}

bool UcxWorker::flush(const Deadline& deadline) {
  ucp_request_param_t params{};
  void* request = ucp_worker_flush_nbx(worker_, &params);
  if (!UCS_PTR_IS_PTR(request)) return UCS_PTR_RAW_STATUS(request) == UCS_OK;
  while (ucp_request_check_status(request) == UCS_INPROGRESS && !deadline.expired()) {
    if (!progress()) idle();
  }
  const bool is_flushed = ucp_request_check_status(request) == UCS_OK;
  // Also one that is still under way: UCX ends it by itself and then lets it go.
  ucp_request_free(request);
  return is_flushed;
}

}  // namespace reshard
