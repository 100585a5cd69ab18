// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From a launcher's variables to a rank and a meeting place. No launcher was made for this, so each tells something
// else: torchrun a host and a port that is its own, mpirun neither of them, srun a list of hosts. What is missing is
// computed from what all ranks of the job see alike; what cannot be is an error with a variable that mends it.
#include "src/transport/launch.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string_view>

namespace reshard {
namespace {

constexpr std::uint16_t kNumPorts = 8;  // tried in a row, because another program may sit on one

Status missing(std::string_view launcher, std::string_view variables) {
  return {RESHARD_ERR_INVALID_STATE,
          fmt::format("started by {}, but {} not set; set RESHARD_ROOT=host:port to an address of rank 0's host",
                      launcher, variables)};
}

// The environment of one process, read with names in every error.
class Environment {
 public:
  explicit Environment(const Surroundings& surroundings) : surroundings_(surroundings) {}

  const std::string& parent() const { return surroundings_.parent; }

  // Set to nothing counts as not set: scripts clear variables that way.
  std::optional<std::string> text(const char* name) const {
    const char* value = surroundings_.variable(name);
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
  }

  bool has(const char* name) const { return text(name).has_value(); }

  /// The first of several variables that is set.
  std::optional<std::string> first_of(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      if (auto value = text(name)) return value;
    }
    return std::nullopt;
  }

  Result<std::int32_t> integer(const char* name, std::int32_t least, std::int32_t most) const {
    const std::string value = text(name).value_or("");
    std::int32_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc{} || end != value.data() + value.size() || number < least || number > most) {
      return invalid_argument(
          fmt::format("environment: {}={} must be a whole number from {} to {}", name, value, least, most));
    }
    return number;
  }

 private:
  const Surroundings& surroundings_;
};

// FNV-1a: the same on every rank and every machine, unlike std::hash.
std::uint64_t hash(std::string_view text) {
  std::uint64_t value = 0xcbf29ce484222325;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return value;
}

Result<Launch> read_ranks(const Environment& environment, const char* rank_name, const char* size_name) {
  Launch launch;
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  RESHARD_TRY(launch.num_ranks, environment.integer(size_name, 1, kMost));
  RESHARD_TRY(launch.rank, environment.integer(rank_name, 0, launch.num_ranks - 1));
  return launch;
}

// What tells a job from others that may meet at the same place, and who may join it. Ports come from the name alone,
// which is no secret.
//
// Two jobs at one place have different names and so different secrets, and refuse each other in the handshake.
struct JobName {
  std::string text;
  std::uint64_t hashed() const { return hash(text); }
};

JobName name_job(const Environment& environment, const char* launcher, std::string_view job, Launch* launch) {
  JobName name{fmt::format("{}/{}/{}", launcher, job, launch->num_ranks)};
  // Open MPI draws this number for its own networks, for every job anew; where it is not set, nothing is lost.
  const auto drawn = environment.text("OMPI_MCA_orte_precondition_transports");
  const bool is_drawn = drawn && std::string_view(launcher) == "mpirun";
  launch->rendezvous.secret = secret_from_text(
      fmt::format("{}\n{}\n{}", name.text, is_drawn ? *drawn : "", environment.text("RESHARD_SECRET").value_or("")));
  return name;
}

void meet_at(Launch* launch, std::string host, std::uint64_t port) {
  launch->rendezvous.hosts = {std::move(host)};
  launch->rendezvous.port = static_cast<std::uint16_t>(port);
  launch->rendezvous.num_ports = kNumPorts;
}

// Where the launcher gives no port: below the kernel's ephemeral range, which starts at 32768; the jobs of one host are
// spread by their names.
std::uint64_t port_of_job(const JobName& name) {
  constexpr std::uint64_t kFirstPort = 10000;
  constexpr std::uint64_t kPortRange = 22000;
  return kFirstPort + name.hashed() % kPortRange;
}

// torchrun's own store listens on MASTER_PORT, so the search begins behind it.
Result<Launch> from_torchrun(const Environment& environment, bool has_root) {
  RESHARD_TRY(Launch launch, read_ranks(environment, "RANK", "WORLD_SIZE"));
  const auto host = environment.text("MASTER_ADDR");
  const auto port_text = environment.text("MASTER_PORT");
  // The run's id may be the same for all jobs, as torchrun's default is; with the port it names one of a host.
  const std::string job = environment.text("TORCHELASTIC_RUN_ID").value_or("") + "/" + port_text.value_or("");
  name_job(environment, "torchrun", job, &launch);
  if (has_root) return launch;
  if (!host || !port_text) return missing("torchrun", "MASTER_ADDR or MASTER_PORT is");
  RESHARD_TRY(const std::int32_t port, environment.integer("MASTER_PORT", 1, 65535 - kNumPorts));
  meet_at(&launch, *host, static_cast<std::uint64_t>(port) + 1);
  return launch;
}

// Open MPI tells no address of rank 0; on one host none is needed.
Result<Launch> from_open_mpi(const Environment& environment, bool has_root) {
  RESHARD_TRY(Launch launch, read_ranks(environment, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"));
  const auto job = environment.first_of({"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"});
  const JobName name = name_job(environment, "mpirun", job.value_or(""), &launch);
  if (has_root) return launch;
  if (!job) return missing("mpirun", "neither PMIX_NAMESPACE nor OMPI_MCA_ess_base_jobid is");
  if (!environment.has("OMPI_COMM_WORLD_LOCAL_SIZE")) return missing("mpirun", "OMPI_COMM_WORLD_LOCAL_SIZE is");
  RESHARD_TRY(const std::int32_t local, environment.integer("OMPI_COMM_WORLD_LOCAL_SIZE", 1, launch.num_ranks));
  if (local != launch.num_ranks) return missing("mpirun on several hosts", "RESHARD_ROOT is");
  meet_at(&launch, "127.0.0.1", port_of_job(name));
  return launch;
}

// The first host of a Slurm list: "gpu[03-05,07],login" -> "gpu03".
std::string first_host(const std::string& list) {
  const std::size_t bracket = list.find('[');
  const std::size_t comma = list.find(',');
  if (bracket == std::string::npos || comma < bracket) return list.substr(0, comma);
  const std::size_t end = list.find_first_of("-,]", bracket);
  if (end == std::string::npos) return list;
  return list.substr(0, bracket) + list.substr(bracket + 1, end - bracket - 1);
}

// Rank 0 runs on the step's first node. SLURM_LAUNCH_NODE_IPADDR, where srun itself was called, may be a login node.
Result<Launch> from_slurm(const Environment& environment, bool has_root) {
  RESHARD_TRY(Launch launch, read_ranks(environment, "SLURM_PROCID", "SLURM_NTASKS"));
  const auto job = environment.text("SLURM_JOB_ID");
  const std::string step = job.value_or("") + "." + environment.text("SLURM_STEP_ID").value_or("");
  const JobName name = name_job(environment, "srun", step, &launch);
  if (has_root) return launch;
  if (!job) return missing("srun", "SLURM_JOB_ID is");
  const auto list = environment.first_of({"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"});
  const auto host = list ? first_host(*list) : environment.text("SLURM_LAUNCH_NODE_IPADDR");
  if (!host) {
    return missing("srun", "none of SLURM_STEP_NODELIST, SLURM_JOB_NODELIST and SLURM_LAUNCH_NODE_IPADDR is");
  }
  meet_at(&launch, *host, port_of_job(name));
  return launch;
}

struct Launcher {
  const char* name;
  const char* rank;  // the variables that say which rank this is, of how many
  const char* size;
  Result<Launch> (*read)(const Environment& environment, bool has_root);
  std::initializer_list<const char*> processes;  // that are the parents of its ranks

  bool is_present(const Environment& environment) const { return environment.has(rank) && environment.has(size); }
  bool is_parent(const std::string& process) const {
    return std::find(processes.begin(), processes.end(), process) != processes.end();
  }
  // "RANK=3, WORLD_SIZE=8"
  std::string values(const Environment& environment) const {
    return fmt::format("{}={}, {}={}", rank, *environment.text(rank), size, *environment.text(size));
  }
  bool agrees(const Launcher& other, const Environment& environment) const {
    return environment.text(rank) == environment.text(other.rank) &&
           environment.text(size) == environment.text(other.size);
  }
};

const Launcher kTorchrun{"torchrun", "RANK", "WORLD_SIZE", from_torchrun, {"torchrun"}};
const Launcher kOpenMpi{"mpirun",
                        "OMPI_COMM_WORLD_RANK",
                        "OMPI_COMM_WORLD_SIZE",
                        from_open_mpi,
                        {"mpirun", "mpiexec", "orterun", "orted", "prterun", "prted", "prte"}};
const Launcher kSlurm{"srun", "SLURM_PROCID", "SLURM_NTASKS", from_slurm, {"slurmstepd"}};

// Null: there is none. The order is explained at launch_from_environment.
const Launcher* choose(const Environment& environment) {
  for (const Launcher* launcher : {&kOpenMpi, &kSlurm, &kTorchrun}) {
    if (launcher->is_present(environment) && launcher->is_parent(environment.parent())) return launcher;
  }
  const bool is_per_process = environment.has("LOCAL_RANK") || environment.has("TORCHELASTIC_RUN_ID");
  if (kTorchrun.is_present(environment) && is_per_process) return &kTorchrun;
  for (const Launcher* launcher : {&kOpenMpi, &kTorchrun, &kSlurm}) {
    if (launcher->is_present(environment)) return launcher;
  }
  return nullptr;
}

// Whose variables were taken, and who else says something different.
std::string describe_origin(const Launcher& chosen, const Environment& environment) {
  std::string text = fmt::format("taken as started by {} ({}", chosen.name, chosen.values(environment));
  for (const Launcher* other : {&kTorchrun, &kOpenMpi, &kSlurm}) {
    if (other == &chosen || !other->is_present(environment) || other->agrees(chosen, environment)) continue;
    text += fmt::format("; not by {}, whose {} contradict that", other->name, other->values(environment));
  }
  return text + ")";
}

Result<Launch> from_launcher(const Environment& environment, bool has_root) {
  const Launcher* launcher = choose(environment);
  if (launcher == nullptr) {
    return Status(RESHARD_ERR_INVALID_STATE,
                  "no launcher's environment: neither RANK and WORLD_SIZE (torchrun), nor OMPI_COMM_WORLD_RANK and "
                  "OMPI_COMM_WORLD_SIZE (mpirun), nor SLURM_PROCID and SLURM_NTASKS (srun) are set; start the ranks "
                  "with one of them, or use a unique id");
  }
  auto launch = launcher->read(environment, has_root);
  std::string origin = describe_origin(*launcher, environment);
  if (!launch.ok()) return launch.take_status().with_context(origin);
  launch->origin = std::move(origin);
  return launch;
}

// "host:port", with an IPv6 address in brackets.
Status meet_at_root(Launch* launch, const std::string& root) {
  const std::size_t colon = root.rfind(':');
  const std::string_view port_text = colon == std::string::npos ? "" : std::string_view(root).substr(colon + 1);
  std::string host = root.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (error != std::errc{} || end != port_text.data() + port_text.size() || port == 0 || host.empty()) {
    return invalid_argument(fmt::format(
        "environment: RESHARD_ROOT={} must be host:port with a port from 1 to 65535, e.g. 10.0.0.1:29600", root));
  }
  launch->rendezvous.hosts = {host};
  launch->rendezvous.port = port;
  return {};
}

}  // namespace

Result<Launch> launch_from_environment(const Surroundings& surroundings) {
  const Environment environment(surroundings);
  const auto root = environment.text("RESHARD_ROOT");
  RESHARD_TRY(Launch launch, from_launcher(environment, root.has_value()));
  if (root) RESHARD_TRY(meet_at_root(&launch, *root));
  return launch;
}

}  // namespace reshard
