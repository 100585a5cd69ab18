// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The NICs of this host that can carry a transfer, with their speeds as the kernel tells them. Ports that are down are
// left out, and so are those much slower than the fastest, such as the one for administration: a plan would count on
// them.
#include "topology/discover/nic_finder.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "topology/gpu_model.h"
#include "topology/read/number.h"

namespace reshard {
namespace {

/// The first line of a small file of the kernel; "" where it cannot be read.
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

class NicFinder {
 public:
  explicit NicFinder(const DiscoverOptions& options) : options_(options) {}

  /// An RDMA device such as "mlx5_0": "400 Gb/sec (4X NDR)".
  Status add_verbs(const std::string& name, const DevicePlace& place) {
    // Adapters of the mlx5 kind show each of their ports as a device of its own, in which it is port 1.
    const std::string port = options_.sysfs + "/class/infiniband/" + name + "/ports/1";
    if (!first_line(port + "/state").starts_with("4:")) return {};
    const std::string rate = first_line(port + "/rate");
    const std::size_t unit = rate.find(" Gb/sec");
    const Result<std::int64_t> tenths = parse_decimal(rate.substr(0, unit), 10, name);
    const bool is_known = unit != std::string::npos && tenths.ok() && *tenths > 0 && *tenths < 1'000'000;
    // Tenths of Gbit/s in bytes per second are 12.5 million each.
    return add(name, place, is_known ? *tenths * 12'500'000 : 0);
  }

  /// An interface such as "eth0", whose speed the kernel gives in Mbit/s, or as -1.
  Status add_interface(const std::string& name, const DevicePlace& place) {
    const std::string folder = options_.sysfs + "/class/net/" + name;
    // Only "down" is out: drivers without a state say "unknown" and work.
    if (first_line(folder + "/operstate") == "down") return {};
    const Result<std::int64_t> speed = parse_integer(first_line(folder + "/speed"), 1, 1'000'000'000, name);
    return add(name, place, speed.ok() ? *speed * 125'000 : 0);
  }

  Status add_all_interfaces() {
    constexpr const char* kLoopback = "772";  // the kernel's ARPHRD_LOOPBACK
    std::vector<std::string> names;
    std::error_code none;  // a host without network has no such folder
    for (const auto& entry : std::filesystem::directory_iterator(options_.sysfs + "/class/net", none)) {
      if (first_line(entry.path().string() + "/type") != kLoopback) names.push_back(entry.path().filename().string());
    }
    // A folder of the kernel has no order; ports are numbered in this one, and alike at every look.
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) RESHARD_TRY(add_interface(name, {}));
    return {};
  }

  bool found() const { return !nics_.empty(); }

  std::vector<NicPlace> fast_ones(std::vector<std::string>* warnings) {
    std::int64_t fastest = 0;
    for (const NicPlace& nic : nics_) fastest = std::max(fastest, nic.nic.link.nominal_bytes_per_s);
    std::vector<NicPlace> fast;
    for (NicPlace& nic : nics_) {
      // Half and not less, for ports of mixed generations differ by a factor of two and are both worth using.
      if (nic.nic.link.nominal_bytes_per_s >= fastest / 2) {
        fast.push_back(std::move(nic));
      } else {
        warnings->push_back(fmt::format("{} is left out, for others are more than twice as fast", nic.nic.name));
      }
    }
    return fast;
  }

 private:
  Status add(const std::string& name, const DevicePlace& place, std::int64_t bytes_per_s) {
    if (bytes_per_s == 0) bytes_per_s = options_.nic_bytes_per_s;
    if (bytes_per_s == 0) {
      return invalid_argument(fmt::format("the kernel does not know the speed of {}; give the speed of NICs", name));
    }
    nics_.push_back({{name, nic_link(bytes_per_s)}, place});
    return {};
  }

  const DiscoverOptions& options_;
  std::vector<NicPlace> nics_;
};

}  // namespace

Result<std::vector<NicPlace>> find_nics(const std::vector<PciDevice>& devices, const DiscoverOptions& options,
                                        std::vector<std::string>* warnings) {
  NicFinder finder(options);
  for (const PciDevice& device : devices) {
    // RDMA first: where there is any, the same port's interface would count its speed twice.
    for (const std::string& name : device.verbs) RESHARD_TRY(finder.add_verbs(name, device.at));
  }
  if (!finder.found()) {
    for (const PciDevice& device : devices) {
      for (const std::string& name : device.interfaces) RESHARD_TRY(finder.add_interface(name, device.at));
    }
  }
  if (!finder.found()) RESHARD_TRY(finder.add_all_interfaces());
  return finder.fast_ones(warnings);
}

}  // namespace reshard
