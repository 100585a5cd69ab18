// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "tests/unit/plan/element_machine.h"
#include "tests/unit/plan/fleet.h"

namespace reshard {
namespace {

using testing::ElementMachine;
using testing::random_numbers;
using testing::random_plan;

RC_GTEST_PROP(ExecutionTest, OneLegAfterTheOtherBringsEveryElementWithOneSlotOfStaging, ()) {
  const std::optional<Plan> plan = random_plan(random_numbers());
  if (!plan.has_value()) return;
  ElementMachine machine(*plan);
  const std::string wrong = machine.run();
  RC_LOG() << wrong;
  RC_ASSERT(wrong.empty());
  RC_ASSERT(machine.most_slots() <= 1);
  RC_CLASSIFY(machine.most_slots() == 1, "staging");
}

RC_GTEST_PROP(ExecutionTest, OneLegAfterTheOtherKeepsTheLimitOfOpenGroups, ()) {
  const std::optional<Plan> first = random_plan(random_numbers());
  if (!first.has_value()) return;
  PlanOptions options = first->options;
  options.open_groups = *rc::gen::inRange(1, 4);
  const Result<Plan> plan = create_plan(first->src, first->dst, options);
  RC_ASSERT(plan.ok());
  ElementMachine machine(*plan);
  const std::string wrong = machine.run();
  RC_LOG() << wrong;
  RC_ASSERT(wrong.empty());
  RC_ASSERT(machine.most_open_groups() <= options.open_groups);
  RC_CLASSIFY(plan->groups.size() > 1 && machine.most_open_groups() > 0, "groups");
}

RC_GTEST_PROP(ExecutionTest, OneLegAfterTheOtherWorksWithoutAMachineToo, ()) {
  const std::optional<Plan> first = random_plan(random_numbers());
  if (!first.has_value()) return;
  PlanOptions options = first->options;
  options.machine = nullptr;
  const Result<Plan> plan = create_plan(first->src, first->dst, options);
  RC_ASSERT(plan.ok());
  ElementMachine machine(*plan);
  const std::string wrong = machine.run();
  RC_LOG() << wrong;
  RC_ASSERT(wrong.empty());
}

}  // namespace
}  // namespace reshard
