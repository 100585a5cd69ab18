// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// A library with the functions of NVML that discovery calls, in place of a driver's. What it describes is set by
// environment variables: STUB_GPUS a number, STUB_SWITCHES of links to switches, STUB_PEERS of links to the next GPU,
// STUB_CLUSTER the first byte of the fabric's id, STUB_INIT what nvmlInit returns.
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

int setting(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::atoi(text);
}

long index_of(void* device) {
  return reinterpret_cast<long>(device) - 1;
}

struct PciInfo {
  char legacy[16];
  unsigned domain, bus, device, id, subsystem;
  char address[32];
};

// The first GPU sits where the recorded host has its GPU.
void fill(long index, PciInfo* pci) {
  std::memset(pci, 0, sizeof(*pci));
  pci->bus = 0x12 + static_cast<unsigned>(index) * 0x10;
  pci->id = 0x233010deU;
}

}  // namespace

extern "C" {

[[gnu::visibility("default")]] int nvmlInit_v2() {
  return setting("STUB_INIT");
}
[[gnu::visibility("default")]] int nvmlShutdown() {
  return 0;
}

[[gnu::visibility("default")]] int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = static_cast<unsigned>(setting("STUB_GPUS"));
  return 0;
}

[[gnu::visibility("default")]] int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = reinterpret_cast<void*>(static_cast<long>(index) + 1);
  return 0;
}

[[gnu::visibility("default")]] int nvmlDeviceGetPciInfo_v3(void* device, PciInfo* pci) {
  fill(index_of(device), pci);
  return 0;
}

[[gnu::visibility("default")]] int nvmlDeviceGetCudaComputeCapability(void*, int* major, int* minor) {
  *major = 9;
  *minor = 0;
  return 0;
}

[[gnu::visibility("default")]] int nvmlDeviceGetMaxPcieLinkGeneration(void*, unsigned* generation) {
  *generation = 5;
  return 0;
}

[[gnu::visibility("default")]] int nvmlDeviceGetMaxPcieLinkWidth(void*, unsigned* width) {
  *width = 16;
  return 0;
}

[[gnu::visibility("default")]] int nvmlDeviceGetNvLinkState(void*, unsigned link, unsigned* is_active) {
  constexpr int kInvalidArgument = 2;
  if (link >= 18) return kInvalidArgument;
  *is_active = link < static_cast<unsigned>(setting("STUB_SWITCHES") + setting("STUB_PEERS")) ? 1 : 0;
  return 0;
}

[[gnu::visibility("default")]] int nvmlDeviceGetNvLinkRemoteDeviceType(void*, unsigned link, unsigned* type) {
  *type = link < static_cast<unsigned>(setting("STUB_SWITCHES")) ? 2 : 0;
  return 0;
}

[[gnu::visibility("default")]] int nvmlDeviceGetNvLinkRemotePciInfo_v2(void* device, unsigned, PciInfo* pci) {
  fill(index_of(device) ^ 1, pci);  // 0 with 1, 2 with 3
  return 0;
}

struct FabricInfo {
  unsigned char cluster[16];
  int status;
  unsigned clique;
  unsigned char state;
};

[[gnu::visibility("default")]] int nvmlDeviceGetGpuFabricInfo(void*, FabricInfo* info) {
  std::memset(info, 0, sizeof(*info));
  info->cluster[0] = static_cast<unsigned char>(setting("STUB_CLUSTER"));
  info->clique = 7;
  info->state = 3;
  return 0;
}

}  // extern "C"
