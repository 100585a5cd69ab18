// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/nccl/library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <map>
#include <mutex>

#include "src/transport/nccl/functions.h"

namespace reshard {
namespace {

std::string needed() {
  return fmt::format("NCCL {} or newer is needed", nccl_version_text(NcclLibrary::kMinVersion));
}

reshard_status_t status_of(ncclResult_t code) {
  switch (code) {
    case ncclRemoteError:  // a peer has gone, or its connection
      return RESHARD_ERR_PEER_FAILED;
    case ncclInvalidArgument:
      return RESHARD_ERR_INVALID_ARGUMENT;
    default:
      return RESHARD_ERR_TRANSPORT;
  }
}

}  // namespace

/// Fills a library; apart from the class, whose header knows no type of NCCL.
struct NcclLoader {
  NcclLibrary* library;
  void* handle;
  std::string name;

  void* find(const char* function) const { return dlsym(handle, function); }

  /// First of all, since a library that is too old may lack functions.
  Status load_version() const {
    const auto get_version = reinterpret_cast<decltype(&::ncclGetVersion)>(find("ncclGetVersion"));
    if (get_version == nullptr) {
      return {RESHARD_ERR_NOT_SUPPORTED, fmt::format("{} has no ncclGetVersion: it is no NCCL; {}", name, needed())};
    }
    Dl_info place{};
    const bool is_found = dladdr(reinterpret_cast<void*>(get_version), &place) != 0 && place.dli_fname != nullptr;
    library->path_ = is_found ? place.dli_fname : name;
    int version = 0;
    if (get_version(&version) != ncclSuccess) {
      return {RESHARD_ERR_NOT_SUPPORTED, fmt::format("ncclGetVersion of {} failed; {}", library->path_, needed())};
    }
    library->version_ = version;
    if (version >= NcclLibrary::kMinVersion) return {};
    return {RESHARD_ERR_NOT_SUPPORTED, fmt::format("{} is too old; {}", library->text(), needed())};
  }

  template <typename Function>
  Status load_function(const char* function, Function* pointer) const {
    *pointer = reinterpret_cast<Function>(find(function));
    if (*pointer != nullptr) return {};
    return {RESHARD_ERR_NOT_SUPPORTED, fmt::format("{} has no {}; {}, whole", library->text(), function, needed())};
  }

  Status load_functions() const {
    NcclFunctions& nccl = *library->functions_;
#define RESHARD_NCCL_LOAD(function) RESHARD_TRY(load_function(#function, &nccl.function));
    RESHARD_NCCL_FUNCTIONS(RESHARD_NCCL_LOAD)
#undef RESHARD_NCCL_LOAD
    nccl.ncclCommRevoke = reinterpret_cast<decltype(nccl.ncclCommRevoke)>(find("ncclCommRevoke"));
    return {};
  }

  static Result<std::shared_ptr<const NcclLibrary>> load(const std::string& name) {
    // Not global: symbols of it must not take the place of those of another NCCL in the process.
    void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      const char* reason = dlerror();
      return Status(RESHARD_ERR_NOT_SUPPORTED,
                    fmt::format("NCCL was not found: {}; {}", reason == nullptr ? name : reason, needed()));
    }
    std::shared_ptr<NcclLibrary> library(new NcclLibrary());
    const NcclLoader loader{library.get(), handle, name};
    Status loaded = loader.load_version();
    if (loaded.ok()) loaded = loader.load_functions();
    if (loaded.ok()) return std::shared_ptr<const NcclLibrary>(std::move(library));
    dlclose(handle);  // it has made nothing yet
    return loaded;
  }
};

NcclLibrary::NcclLibrary() : functions_(std::make_unique<NcclFunctions>()) {}
NcclLibrary::~NcclLibrary() = default;

bool NcclLibrary::has_revoke() const {
  return functions_->ncclCommRevoke != nullptr;
}

Result<std::shared_ptr<const NcclLibrary>> NcclLibrary::load(const std::string& name) {
  // A library belongs to the process as its code does. One that could not be loaded is tried again when asked for.
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const NcclLibrary>> loaded;
  const std::string wanted = name.empty() ? kDefaultName : name;
  const std::lock_guard<std::mutex> lock(mutex);
  if (const auto found = loaded.find(wanted); found != loaded.end()) return found->second;
  RESHARD_TRY(std::shared_ptr<const NcclLibrary> library, NcclLoader::load(wanted));
  loaded.emplace(wanted, library);
  return library;
}

Status NcclLibrary::check_is_the_loaded_one() const {
  void* handle = dlopen(kDefaultName, RTLD_NOW | RTLD_NOLOAD);
  if (handle == nullptr) return {};
  void* theirs = dlsym(handle, "ncclCommCount");
  Dl_info place{};
  const bool is_same = theirs == reinterpret_cast<void*>(functions_->ncclCommCount);
  const bool is_found = dladdr(theirs, &place) != 0 && place.dli_fname != nullptr;
  const std::string path = is_found ? place.dli_fname : kDefaultName;
  dlclose(handle);
  if (is_same) return {};
  return invalid_argument(
      fmt::format("the process has loaded {}, and {} was asked for: a given communicator must be of the NCCL that "
                  "works on it; name the loaded one, or none",
                  path, path_));
}

Status nccl_status(const NcclFunctions& nccl, std::string_view call, ncclResult_t code, ncclComm_t comm) {
  if (code == ncclSuccess || code == ncclInProgress) return {};
  const char* last = nccl.ncclGetLastError(comm);
  const std::string more = last == nullptr || *last == '\0' ? "" : fmt::format("; {}", last);
  return {status_of(code),
          fmt::format("{} failed: {} ({}){}", call, nccl.ncclGetErrorString(code), static_cast<int>(code), more)};
}

}  // namespace reshard
