// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/indexed_vector.h"
#include "src/base/status.h"

namespace reshard {

/// As a rate: nothing is known that would limit it, so planning counts on no limit. Of a Machine 0 means nothing else;
/// what is slower than kLeastBytesPerS is refused, so that no slow link rounds to it.
inline constexpr std::int64_t kUnlimited = 0;
inline constexpr std::int64_t kLeastBytesPerS = 1000;

/// One direction of something that bytes pass.
struct Link {
  std::int64_t nominal_bytes_per_s = kUnlimited;  ///< what its data sheet says
  std::int32_t efficiency_permille = 1000;        ///< what large transfers reach of that, above 0
  std::int32_t latency_ns = 0;

  bool is_limited() const { return nominal_bytes_per_s != kUnlimited; }
  /// What planning counts on; kUnlimited only where the nominal rate is.
  std::int64_t bytes_per_s() const { return nominal_bytes_per_s / 1000 * efficiency_permille; }

  bool operator==(const Link&) const = default;
};

/// Kinds of directed resources. "Out" and "up" leave the thing, "in" and "down" enter it.
enum class ResourceKind : std::int8_t {
  kLinkOut,  ///< of a GPU into its domain: NVLink, or shared memory between processes of a host
  kLinkIn,   ///< of a GPU from its domain
  kPcieOut,  ///< of a GPU towards its NIC
  kPcieIn,   ///< of a GPU from its NIC
  kNicOut,   ///< of a port
  kNicIn,    ///< of a port
  kLeafUp,   ///< of a leaf switch towards the other leaves of its pod
  kLeafDown,
  kPodUp,  ///< of a pod towards the core
  kPodDown,
  kMemory,  ///< of a rank: reads and writes together. Of no path, see append_uses()
};
inline constexpr int kNumResourceKinds = 11;

/// "nic out", "leaf up", ...
const char* name(ResourceKind kind);

/// The machine that a plan is made for, as its ranks see it: GPU r is the one of rank r.
///
/// Bytes between two ranks take the best that joins them: nothing within a rank; the domain's links within a domain;
/// else PCIe, the port, and as many tiers of the fabric as it takes. A port is what one GPU reaches the network by: one
/// NIC, or the several NICs that serve it together. Rail k of a node's ports meets rail k of other nodes' in a leaf.
struct Machine {
  struct Node {
    std::string name;
    std::int32_t block = 0;  ///< nodes of one block hang on the same leaf switches
  };
  struct Gpu {
    NodeId node{0};
    DomainId domain{0};
    PortId port{};  ///< several GPUs may share one; -1: it has none, and the network is out of reach
    Link link;      ///< to its domain, each direction
    Link pcie;      ///< to its port, each direction
    Link memory;    ///< its own, reads and writes together; of a process on a host what its core copies
    /// What the domain's switch reaches of the link's rate when it copies what one GPU sends to several; 0: it cannot.
    /// Estimates ask what it would gain; no plan uses it, hence it is not in the digest.
    std::int32_t multicast_permille = 0;
  };
  struct Port {
    NodeId node{0};
    RailId rail{0};
    LeafId leaf{0};
    Link out;
    Link in;
    std::string name;  ///< of its NIC or NICs, e.g. "mlx5_0"
  };
  struct Leaf {
    PodId pod{0};
    std::int32_t block = 0;
    RailId rail{};  ///< -1: all rails of its nodes
    Link up;
    Link down;
  };
  struct Pod {
    Link up;
    Link down;
  };
  /// GPUs that reach each other without the network: an NVLink domain, or a host with shared memory.
  struct Domain {
    std::vector<std::int32_t> ranks;  ///< ascending
    std::vector<std::int32_t> ports;  ///< of these ranks, ascending, distinct
  };

  std::string name;            ///< what it was made from, e.g. "hgx-h100:nodes=64"
  bool rail_isolated = false;  ///< ports of different rails cannot reach each other
  IndexedVector<NodeId, Node> nodes;
  IndexedVector<RankId, Gpu> gpus;
  IndexedVector<PortId, Port> ports;
  IndexedVector<LeafId, Leaf> leaves;
  IndexedVector<PodId, Pod> pods;
  IndexedVector<DomainId, Domain> domains;

  std::int32_t num_ranks() const { return gpus.end_id(); }

  /// Resources are numbered by kind, and within a kind by GPU, port, leaf or pod.
  std::int32_t resource(ResourceKind kind, std::int32_t index) const;
  std::int32_t num_resources() const;
  ResourceKind kind_of(std::int32_t resource) const;
  std::int32_t index_of(std::int32_t resource) const;
  const Link& link_of(std::int32_t resource) const;
  /// "nic out of mlx5_3 on n0042"
  std::string describe(std::int32_t resource) const;

  bool same_domain(RankId a, RankId b) const;
  /// Whether the network joins the ports of two ranks of different domains.
  bool reaches(RankId src, RankId dst) const;
  /// The resources that bytes from one rank to another pass, those without a limit left out; empty within a rank.
  /// Between domains it is the way over the network. @pre same_domain(src, dst) or reaches(src, dst)
  void append_path(RankId src, RankId dst, std::vector<std::int32_t>* out) const;
  /// The same, and memory at both ends, which is read at one and written at the other: all that a hop loads. Within a
  /// rank a copy, which passes its memory twice.
  ///
  /// Memory is apart because a way is chosen by what lies between ranks: the bytes that a rank holds or wants pass its
  /// memory whichever way they take. But it has a number like every resource, so that loads, bounds, simulation and
  /// reports treat it like any other.
  void append_uses(RankId src, RankId dst, std::vector<std::int32_t>* out) const;
  /// Sum of the latencies on that way.
  std::int64_t latency_ns(RankId src, RankId dst) const;

  /// Of everything that a plan depends on; names are not.
  std::uint64_t digest() const;
};

}  // namespace reshard
