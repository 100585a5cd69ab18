// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// GPUs and their NVLinks by NVML, the library of the driver. It is opened when discovery runs and not linked, so that
// one build of this library serves hosts with and without a driver.
#include "topology/discover/nvml.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>

namespace reshard {
namespace {

// The part of NVML's interface that is used, by its documentation: its header comes with CUDA, which this does not
// need.
using Device = void*;
using Code = int;
constexpr Code kSuccess = 0;
constexpr Code kNotSupported = 3;
constexpr Code kDriverNotLoaded = 9;
// More than any GPU has; a bound for the loop over a library's answers.
constexpr unsigned kMaxLinks = 36;

struct PciInfo {
  std::array<char, 16> legacy_address;
  unsigned domain;
  unsigned bus;
  unsigned device;
  unsigned device_and_vendor;
  unsigned subsystem;
  std::array<char, 32> address;
};
// The driver writes through this struct: a size of another would be memory of ours overwritten.
static_assert(sizeof(PciInfo) == 68);

struct FabricInfo {
  std::array<unsigned char, 16> cluster;
  Code status;
  unsigned clique;
  unsigned char state;
};
static_assert(sizeof(FabricInfo) == 28);
constexpr unsigned char kFabricCompleted = 3;

enum RemoteType : unsigned { kGpu = 0, kSwitch = 2 };

struct LibraryCloser {
  void operator()(void* library) const { dlclose(library); }
};

class Nvml {
 public:
  /// nullptr where there is no library or no driver.
  static Result<std::unique_ptr<Nvml>> open(const std::string& path) {
    auto nvml = std::make_unique<Nvml>();
    // Local, so that its symbols do not answer for those of another library that the program has.
    nvml->library_.reset(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL));
    if (nvml->library_ == nullptr) return std::unique_ptr<Nvml>();
    RESHARD_TRY(nvml->load(path));
    const Code code = nvml->init_();
    if (code == kDriverNotLoaded) return std::unique_ptr<Nvml>();
    if (code != kSuccess) return failed("nvmlInit_v2", code);
    nvml->is_initialised_ = true;
    return nvml;
  }

  Nvml() = default;
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  ~Nvml() {
    if (is_initialised_) shutdown_();
  }

  Result<std::vector<NvmlGpu>> gpus() const {
    unsigned count = 0;
    if (const Code code = get_count_(&count); code != kSuccess) return failed("nvmlDeviceGetCount_v2", code);
    std::vector<NvmlGpu> gpus;
    for (unsigned i = 0; i < count; ++i) {
      Device device = nullptr;
      if (const Code code = get_handle_(i, &device); code != kSuccess)
        return failed("nvmlDeviceGetHandleByIndex_v2", code);
      RESHARD_TRY(NvmlGpu gpu, read(device));
      gpus.push_back(std::move(gpu));
    }
    return gpus;
  }

 private:
  static Status failed(const char* function, Code code) {
    return {RESHARD_ERR_INTERNAL, fmt::format("NVML: {} returned {}", function, code)};
  }

  template <typename Function>
  Status find(const std::string& path, const char* name, Function** function) const {
    *function = reinterpret_cast<Function*>(dlsym(library_.get(), name));
    if (*function != nullptr) return {};
    return {RESHARD_ERR_INTERNAL, fmt::format("{} has no {}; a newer driver has", path, name)};
  }

  Status load(const std::string& path) {
    RESHARD_TRY(find(path, "nvmlInit_v2", &init_));
    RESHARD_TRY(find(path, "nvmlShutdown", &shutdown_));
    RESHARD_TRY(find(path, "nvmlDeviceGetCount_v2", &get_count_));
    RESHARD_TRY(find(path, "nvmlDeviceGetHandleByIndex_v2", &get_handle_));
    RESHARD_TRY(find(path, "nvmlDeviceGetPciInfo_v3", &get_pci_));
    RESHARD_TRY(find(path, "nvmlDeviceGetCudaComputeCapability", &get_capability_));
    RESHARD_TRY(find(path, "nvmlDeviceGetMaxPcieLinkGeneration", &get_pcie_generation_));
    RESHARD_TRY(find(path, "nvmlDeviceGetMaxPcieLinkWidth", &get_pcie_width_));
    RESHARD_TRY(find(path, "nvmlDeviceGetNvLinkState", &get_link_state_));
    RESHARD_TRY(find(path, "nvmlDeviceGetNvLinkRemotePciInfo_v2", &get_link_pci_));
    // Younger than the others; drivers that lack them know of no NVLink across nodes, and only of switches' addresses.
    static_cast<void>(find(path, "nvmlDeviceGetNvLinkRemoteDeviceType", &get_link_type_));
    static_cast<void>(find(path, "nvmlDeviceGetGpuFabricInfo", &get_fabric_));
    return {};
  }

  Result<NvmlGpu> read(Device device) const {
    PciInfo pci{};
    NvmlGpu gpu;
    int major = 0;
    int minor = 0;
    unsigned generation = 0;
    unsigned width = 0;
    if (const Code code = get_pci_(device, &pci); code != kSuccess) return failed("nvmlDeviceGetPciInfo_v3", code);
    if (const Code code = get_capability_(device, &major, &minor); code != kSuccess) {
      return failed("nvmlDeviceGetCudaComputeCapability", code);
    }
    // In a virtual machine these two may be unknown, and then PCIe has no known limit.
    if (get_pcie_generation_(device, &generation) == kSuccess && get_pcie_width_(device, &width) == kSuccess) {
      gpu.pcie_generation = static_cast<std::int32_t>(std::min(generation, 100U));
      gpu.pcie_width = static_cast<std::int32_t>(std::min(width, 64U));
    }
    gpu.domain = pci.domain;
    gpu.bus = pci.bus;
    gpu.slot = pci.device;
    gpu.pci_device = pci.device_and_vendor >> 16U;
    gpu.sm = static_cast<std::int32_t>(major * 10 + minor);
    RESHARD_TRY(read_links(device, &gpu));
    read_fabric(device, &gpu);
    return gpu;
  }

  Status read_links(Device device, NvmlGpu* gpu) const {
    for (unsigned link = 0; link < kMaxLinks; ++link) {
      unsigned is_active = 0;
      // There is no call for the number of links; beyond the last one this one fails.
      if (get_link_state_(device, link, &is_active) != kSuccess) break;
      if (is_active == 0) continue;
      unsigned type = kSwitch;
      if (get_link_type_ != nullptr) {
        const Code code = get_link_type_(device, link, &type);
        if (code != kSuccess && code != kNotSupported) return failed("nvmlDeviceGetNvLinkRemoteDeviceType", code);
      }
      if (type == kSwitch) ++gpu->switch_links;
      if (type != kGpu) continue;
      PciInfo remote{};
      if (const Code code = get_link_pci_(device, link, &remote); code != kSuccess) {
        return failed("nvmlDeviceGetNvLinkRemotePciInfo_v2", code);
      }
      gpu->peer_links.push_back(pci_address(remote.domain, remote.bus, remote.device));
    }
    return {};
  }

  /// Nothing unless the fabric manager has put this GPU into a domain: a board of its own has a cluster of zeros.
  void read_fabric(Device device, NvmlGpu* gpu) const {
    FabricInfo info{};
    if (get_fabric_ == nullptr || get_fabric_(device, &info) != kSuccess) return;
    if (info.state != kFabricCompleted || info.status != kSuccess) return;
    if (std::all_of(info.cluster.begin(), info.cluster.end(), [](unsigned char c) { return c == 0; })) return;
    for (const unsigned char byte : info.cluster) gpu->fabric += fmt::format("{:02x}", byte);
    gpu->fabric += fmt::format(".{}", info.clique);
  }

  std::unique_ptr<void, LibraryCloser> library_;
  bool is_initialised_ = false;
  Code (*init_)() = nullptr;
  Code (*shutdown_)() = nullptr;
  Code (*get_count_)(unsigned*) = nullptr;
  Code (*get_handle_)(unsigned, Device*) = nullptr;
  Code (*get_pci_)(Device, PciInfo*) = nullptr;
  Code (*get_capability_)(Device, int*, int*) = nullptr;
  Code (*get_pcie_generation_)(Device, unsigned*) = nullptr;
  Code (*get_pcie_width_)(Device, unsigned*) = nullptr;
  Code (*get_link_state_)(Device, unsigned, unsigned*) = nullptr;
  Code (*get_link_pci_)(Device, unsigned, PciInfo*) = nullptr;
  Code (*get_link_type_)(Device, unsigned, unsigned*) = nullptr;
  Code (*get_fabric_)(Device, FabricInfo*) = nullptr;
};

}  // namespace

std::string pci_address(std::uint32_t domain, std::uint32_t bus, std::uint32_t slot) {
  return fmt::format("{:04x}:{:02x}:{:02x}", domain, bus, slot);
}

Result<std::vector<NvmlGpu>> nvml_gpus(const std::string& library) {
  RESHARD_TRY(const std::unique_ptr<Nvml> nvml, Nvml::open(library));
  if (nvml == nullptr) return std::vector<NvmlGpu>();
  return nvml->gpus();
}

}  // namespace reshard
