// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/bounds/bounds.h"
#include "src/plan/bounds/domain_ports.h"
#include "src/plan/bounds/needed_bytes.h"
#include "src/plan/domain_sets.h"

namespace reshard::bounds {

/// What cuts through a machine are made of. Of each bound bounds.h says what it is; its proof stands where it is
/// computed.
struct Cuts {
  explicit Cuts(const Plan& given) : plan(given) {}

  const Plan& plan;  ///< must outlive this, and has a machine
  const Machine& machine = *plan.options.machine;
  const DomainSets domains{machine, plan.sets};
  const NeededBytes bytes{plan, domains};
  const DomainPorts ports{machine};
};

// Through ports and links.
Bound gpu_ingress(const Cuts& cuts);
Bound domain_ingress(const Cuts& cuts);
Bound domain_egress(const Cuts& cuts);
Bound source_sets(const Cuts& cuts);
Bound rails(const Cuts& cuts);
Bound shared_ports(const Cuts& cuts);
Bound rail_changes(const Cuts& cuts);

// Through memories, and between them and ports.
Bound memory(const Cuts& cuts);
Bound pcie(const Cuts& cuts);

}  // namespace reshard::bounds
