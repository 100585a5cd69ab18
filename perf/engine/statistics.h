// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <vector>

namespace reshard::perf {

/// The middle sample, or the mean of the two middle ones; 0 for no samples.
double median(std::vector<double> samples);

/// The smallest sample that at least `fraction` of the samples do not exceed (nearest rank); 0 for no samples.
double percentile(std::vector<double> samples, double fraction);

}  // namespace reshard::perf
