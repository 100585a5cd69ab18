// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/exec/proof.h"

#include "tests/unit/exec/buffer_memory.h"

namespace reshard::testing {

std::vector<Schedule> schedules_of(const Plan& plan, std::uint32_t percent, std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto count = static_cast<std::size_t>(plan.num_ranks);
  std::vector<RankLinks> links(count);
  for (RankLinks& of_rank : links) {
    for (RankFlags* flags : {&of_rank.reads_source, &of_rank.reads_destination, &of_rank.source_read_by,
                             &of_rank.destination_read_by, &of_rank.stages_sends, &of_rank.stages_receives}) {
      flags->assign(count, false);
    }
    of_rank.stages_all = random() % 100 < percent / 2;
  }
  for (const RankId reader : links.front().reads_source.ids()) {
    for (const RankId lender : links.front().reads_source.ids()) {
      RankLinks& mine = at(links, std::int32_t{reader});
      RankLinks& theirs = at(links, std::int32_t{lender});
      mine.reads_source[lender] = theirs.source_read_by[reader] = random() % 100 < percent;
      mine.reads_destination[lender] = theirs.destination_read_by[reader] = random() % 100 < percent;
    }
  }
  std::vector<Schedule> schedules;
  for (std::int32_t rank = 0; rank < plan.num_ranks; ++rank) {
    schedules.push_back(build_schedule(plan, rank, at(links, rank)));
  }
  return schedules;
}

std::string prove(const Plan& plan) {
  for (const std::uint32_t percent : {0U, 100U, 30U, 70U}) {
    const Status status = check_schedules(schedules_of(plan, percent, 7 + percent));
    if (!status.ok()) return std::to_string(percent) + " % mapped: " + status.message() + "\n";
  }
  return {};
}

Result<std::unique_ptr<Binding>> bind(BindOptions options) {
  choose_memory(&options);
  Result<std::unique_ptr<Binding>> binding = Binding::create(options);
  if (!binding.ok() || options.transport->rank() != 0) return binding;
  const std::string wrong = prove(*options.plan);
  if (!wrong.empty()) return Status{RESHARD_ERR_INTERNAL, wrong};
  return binding;
}

}  // namespace reshard::testing
