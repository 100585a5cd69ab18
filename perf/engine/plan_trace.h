// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <nlohmann/json.hpp>

namespace reshard::perf {

/**
 * The simulated flows of plan_details as a trace in the event format that Chrome and Perfetto read.
 *
 * A process is a domain, a thread a rank, a complete event a flow at its source: a whole route, all hops of which run
 * at the same time. The events are in order of their times, in microseconds. What a rank sends at the same time as
 * another flow lies on further threads of its own, as events of one thread may not overlap. One more process holds a
 * counter for the use of each class of links.
 */
nlohmann::json plan_trace(const nlohmann::json& details);

}  // namespace reshard::perf
