// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/launch.h"

#include <gtest/gtest.h>

#include <map>

namespace reshard::test {
namespace {

using Environment = std::map<std::string, std::string>;

Result<Launch> read(const Environment& environment, const std::string& parent = "bash") {
  const auto variable = [&](const char* name) -> const char* {
    const auto it = environment.find(name);
    return it == environment.end() ? nullptr : it->second.c_str();
  };
  return launch_from_environment({variable, parent});
}

Environment with(Environment environment, const Environment& changes) {
  for (const auto& [name, value] : changes) environment[name] = value;
  return environment;
}

Environment without(Environment environment, const std::string& name) {
  environment.erase(name);
  return environment;
}

const Environment kTorchrun{{"RANK", "3"},
                            {"WORLD_SIZE", "8"},
                            {"MASTER_ADDR", "10.1.2.3"},
                            {"MASTER_PORT", "29500"},
                            {"TORCHELASTIC_RUN_ID", "abc"}};
const Environment kOpenMpi{{"OMPI_COMM_WORLD_RANK", "1"},
                           {"OMPI_COMM_WORLD_SIZE", "4"},
                           {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                           {"PMIX_NAMESPACE", "2912223233"}};
const Environment kSlurm{{"SLURM_PROCID", "2"},
                         {"SLURM_NTASKS", "16"},
                         {"SLURM_JOB_ID", "77"},
                         {"SLURM_STEP_ID", "0"},
                         {"SLURM_STEP_NODELIST", "gpu[03-05,07],cpu1"},
                         {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.9"}};

TEST(LaunchTest, TorchrunMeetsBehindItsStore) {
  const auto launch = read(kTorchrun);
  ASSERT_TRUE(launch.ok()) << launch.status().message();
  EXPECT_EQ(launch->rank, 3);
  EXPECT_EQ(launch->num_ranks, 8);
  EXPECT_EQ(launch->rendezvous.hosts, std::vector<std::string>{"10.1.2.3"});
  EXPECT_EQ(launch->rendezvous.port, 29501);
  EXPECT_GT(launch->rendezvous.num_ports, 1);
}

TEST(LaunchTest, OpenMpiMeetsOnItsOnlyHostAtAPortOfTheJob) {
  const auto launch = read(kOpenMpi);
  ASSERT_TRUE(launch.ok()) << launch.status().message();
  EXPECT_EQ(launch->rank, 1);
  EXPECT_EQ(launch->num_ranks, 4);
  EXPECT_EQ(launch->rendezvous.hosts, std::vector<std::string>{"127.0.0.1"});
  EXPECT_GE(launch->rendezvous.port, 1024);
  EXPECT_LT(launch->rendezvous.port + launch->rendezvous.num_ports, 32768);
  const auto by_mca = read(with(without(kOpenMpi, "PMIX_NAMESPACE"), {{"OMPI_MCA_ess_base_jobid", "2912223233"}}));
  ASSERT_TRUE(by_mca.ok());
  EXPECT_TRUE(by_mca->rendezvous.secret == launch->rendezvous.secret);
}

TEST(LaunchTest, SlurmMeetsOnTheFirstNodeOfTheStep) {
  const std::map<std::string, std::string> cases{
      {"gpu[03-05,07],cpu1", "gpu03"}, {"gpu[7,9]", "gpu7"},  {"a1,b2", "a1"}, {"node5", "node5"},
      {"cpu1,gpu[1-2]", "cpu1"},       {"rack[1-2]", "rack1"}};
  for (const auto& [list, host] : cases) {
    const auto launch = read(with(kSlurm, {{"SLURM_STEP_NODELIST", list}}));
    ASSERT_TRUE(launch.ok()) << launch.status().message();
    EXPECT_EQ(launch->rendezvous.hosts, std::vector<std::string>{host}) << list;
    EXPECT_EQ(launch->rank, 2);
    EXPECT_EQ(launch->num_ranks, 16);
  }
  const auto by_job = read(with(without(kSlurm, "SLURM_STEP_NODELIST"), {{"SLURM_JOB_NODELIST", "n[1-2]"}}));
  ASSERT_TRUE(by_job.ok());
  EXPECT_EQ(by_job->rendezvous.hosts, std::vector<std::string>{"n1"});
  const auto by_address = read(without(kSlurm, "SLURM_STEP_NODELIST"));
  ASSERT_TRUE(by_address.ok());
  EXPECT_EQ(by_address->rendezvous.hosts, std::vector<std::string>{"10.0.0.9"});
}

TEST(LaunchTest, RanksOfAJobAgreeAndJobsDiffer) {
  const std::vector<std::pair<Environment, std::pair<const char*, const char*>>> cases{
      {kTorchrun, {"RANK", "TORCHELASTIC_RUN_ID"}},
      {kOpenMpi, {"OMPI_COMM_WORLD_RANK", "PMIX_NAMESPACE"}},
      {kSlurm, {"SLURM_PROCID", "SLURM_STEP_ID"}}};
  for (const auto& [environment, names] : cases) {
    const auto launch = read(environment);
    const auto other_rank = read(with(environment, {{names.first, "0"}}));
    const auto other_job = read(with(environment, {{names.second, "12"}}));
    ASSERT_TRUE(launch.ok() && other_rank.ok() && other_job.ok());
    EXPECT_TRUE(launch->rendezvous.secret == other_rank->rendezvous.secret);
    EXPECT_EQ(launch->rendezvous.port, other_rank->rendezvous.port);
    EXPECT_FALSE(launch->rendezvous.secret == other_job->rendezvous.secret);
  }
}

TEST(LaunchTest, SecretTextsMakeASecretAndLeaveThePlace) {
  for (const Environment& environment : {kTorchrun, kOpenMpi, kSlurm}) {
    const auto without_text = read(environment);
    const auto with_text = read(with(environment, {{"RESHARD_SECRET", "a long random text"}}));
    const auto with_other = read(with(environment, {{"RESHARD_SECRET", "another one"}}));
    ASSERT_TRUE(without_text.ok() && with_text.ok() && with_other.ok());
    EXPECT_FALSE(with_text->rendezvous.secret == without_text->rendezvous.secret);
    EXPECT_FALSE(with_text->rendezvous.secret == with_other->rendezvous.secret);
    EXPECT_EQ(with_text->rendezvous.port, without_text->rendezvous.port);
  }
  // Open MPI draws a number for each job.
  const Environment drawn{{"OMPI_MCA_orte_precondition_transports", "b33668d9f8dddb5d-199bc95e70abf6b8"}};
  EXPECT_FALSE(read(kOpenMpi)->rendezvous.secret == read(with(kOpenMpi, drawn))->rendezvous.secret);
  // Another launcher's ranks inherit it, perhaps not all of them.
  EXPECT_TRUE(read(kSlurm)->rendezvous.secret == read(with(kSlurm, drawn))->rendezvous.secret);
}

// What a pod sets for all its processes, whoever starts them.
const Environment kPod{{"RANK", "0"}, {"WORLD_SIZE", "8"}, {"MASTER_ADDR", "10.1.2.3"}, {"MASTER_PORT", "29500"}};

TEST(LaunchTest, LauncherThatStartedThisProcessWins) {
  struct Case {
    Environment environment;
    std::string parent;
    std::int32_t rank, num_ranks;
  };
  const Environment per_process{{"LOCAL_RANK", "3"}};
  const std::vector<Case> cases{
      {with(with(kSlurm, kOpenMpi), kTorchrun), "python3", 3, 8},  // torchrun under mpirun under Slurm
      {with(kSlurm, kOpenMpi), "bash", 1, 4},                      // mpirun inside a Slurm job
      {with(kOpenMpi, kPod), "bash", 1, 4},                        // mpirun inside a pod
      {with(kOpenMpi, kPod), "mpirun", 1, 4},
      {with(with(kOpenMpi, kPod), per_process), "mpirun", 1, 4},  // whatever else the pod sets
      {with(with(kOpenMpi, kPod), per_process), "orted", 1, 4},
      {with(with(kOpenMpi, kPod), per_process), "python3", 0, 8},  // a launcher that sets each process's LOCAL_RANK
      {with(kSlurm, kPod), "bash", 0, 8},                          // a script in a Slurm job
      {with(kSlurm, kPod), "slurmstepd", 2, 16},                   // srun inside a pod
      {kPod, "bash", 0, 8}};
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto launch = read(cases[i].environment, cases[i].parent);
    ASSERT_TRUE(launch.ok()) << i << ": " << launch.status().message();
    EXPECT_EQ(launch->rank, cases[i].rank) << i;
    EXPECT_EQ(launch->num_ranks, cases[i].num_ranks) << i;
  }
}

TEST(LaunchTest, OriginNamesTheLauncherAndWhoContradictsIt) {
  const auto pod = read(with(kOpenMpi, kPod));
  ASSERT_TRUE(pod.ok());
  for (const char* text : {"mpirun", "OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=4", "RANK=0", "WORLD_SIZE=8"}) {
    EXPECT_NE(pod->origin.find(text), std::string::npos) << text << " in " << pod->origin;
  }
  // The same rank of as many: nothing to say.
  const auto agreeing = read(with(kOpenMpi, {{"RANK", "1"}, {"WORLD_SIZE", "4"}}));
  ASSERT_TRUE(agreeing.ok());
  EXPECT_EQ(agreeing->origin.find("WORLD_SIZE=4;"), std::string::npos) << agreeing->origin;
  EXPECT_EQ(agreeing->origin.find("contradict"), std::string::npos) << agreeing->origin;
  // An error says it too.
  const auto broken = read(with(with(kOpenMpi, kPod), {{"OMPI_COMM_WORLD_SIZE", "many"}}));
  EXPECT_NE(broken.status().message().find("RANK=0"), std::string::npos) << broken.status().message();
}

TEST(LaunchTest, RootOverridesThePlace) {
  for (const Environment& environment : {kTorchrun, kOpenMpi, kSlurm}) {
    const auto launch = read(with(environment, {{"RESHARD_ROOT", "head:4711"}}));
    ASSERT_TRUE(launch.ok()) << launch.status().message();
    EXPECT_EQ(launch->rendezvous.hosts, std::vector<std::string>{"head"});
    EXPECT_EQ(launch->rendezvous.port, 4711);
    EXPECT_EQ(launch->rendezvous.num_ports, 1);
  }
  const auto ipv6 = read(with(kSlurm, {{"RESHARD_ROOT", "[fd00::1]:4711"}}));
  ASSERT_TRUE(ipv6.ok());
  EXPECT_EQ(ipv6->rendezvous.hosts, std::vector<std::string>{"fd00::1"});
  // What the place would have come from is not needed then.
  EXPECT_TRUE(read(with(without(kTorchrun, "MASTER_ADDR"), {{"RESHARD_ROOT", "head:4711"}})).ok());
  EXPECT_TRUE(read(with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}, {"RESHARD_ROOT", "head:4711"}})).ok());
}

TEST(LaunchTest, MissingVariablesAreNamed) {
  const std::vector<std::pair<Environment, std::vector<std::string>>> cases{
      {{}, {"RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"}},
      {{{"RANK", ""}, {"WORLD_SIZE", "2"}}, {"RANK"}},
      {without(kTorchrun, "MASTER_ADDR"), {"MASTER_ADDR", "RESHARD_ROOT"}},
      {without(kTorchrun, "MASTER_PORT"), {"MASTER_PORT", "RESHARD_ROOT"}},
      {without(kOpenMpi, "PMIX_NAMESPACE"), {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"}},
      {with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}), {"RESHARD_ROOT"}},
      {without(kSlurm, "SLURM_JOB_ID"), {"SLURM_JOB_ID"}},
      {without(without(kSlurm, "SLURM_STEP_NODELIST"), "SLURM_LAUNCH_NODE_IPADDR"), {"SLURM_JOB_NODELIST"}}};
  for (const auto& [environment, names] : cases) {
    const auto launch = read(environment);
    EXPECT_EQ(launch.status().code(), RESHARD_ERR_INVALID_STATE);
    for (const std::string& name : names) {
      EXPECT_NE(launch.status().message().find(name), std::string::npos) << launch.status().message();
    }
  }
}

TEST(LaunchTest, MalformedVariablesAreNamedWithTheirValue) {
  const std::vector<std::pair<Environment, std::string>> cases{
      {with(kTorchrun, {{"RANK", "8"}}), "RANK=8"},
      {with(kTorchrun, {{"RANK", "-1"}}), "RANK=-1"},
      {with(kTorchrun, {{"WORLD_SIZE", "eight"}}), "WORLD_SIZE=eight"},
      {with(kTorchrun, {{"WORLD_SIZE", "99999999999"}}), "WORLD_SIZE=99999999999"},
      {with(kTorchrun, {{"MASTER_PORT", "70000"}}), "MASTER_PORT=70000"},
      {with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "4x"}}), "OMPI_COMM_WORLD_LOCAL_SIZE=4x"},
      {with(kSlurm, {{"RESHARD_ROOT", "head"}}), "RESHARD_ROOT=head"},
      {with(kSlurm, {{"RESHARD_ROOT", "head:0"}}), "RESHARD_ROOT=head:0"},
      {with(kSlurm, {{"RESHARD_ROOT", ":80"}}), "RESHARD_ROOT=:80"},
      {with(kSlurm, {{"RESHARD_ROOT", "head:99999"}}), "RESHARD_ROOT=head:99999"}};
  for (const auto& [environment, text] : cases) {
    const auto launch = read(environment);
    EXPECT_EQ(launch.status().code(), RESHARD_ERR_INVALID_ARGUMENT) << text;
    EXPECT_NE(launch.status().message().find(text), std::string::npos) << launch.status().message();
  }
}

}  // namespace
}  // namespace reshard::test
