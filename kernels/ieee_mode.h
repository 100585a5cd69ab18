// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <cfenv>
#endif

namespace reshard {

/// While it lives, the calling thread computes as IEEE 754 says: to the nearest, ties to even, with denormals. Callers
/// may have asked their threads for other things (frameworks flush denormals to zero), and what is quantised must not
/// depend on them. Exceptions stay masked.
class IeeeMode {
 public:
#if defined(__x86_64__)
  IeeeMode() : before_(_mm_getcsr()) {
    if (before_ != kDefault) _mm_setcsr(kDefault);
  }
  ~IeeeMode() {
    // Flags that were raised are none of the caller's: the word is what it was.
    if (before_ != kDefault) _mm_setcsr(before_);
  }
#else
  IeeeMode() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~IeeeMode() {
    std::fesetenv(&before_);
  }
#endif
  IeeeMode(const IeeeMode&) = delete;
  IeeeMode& operator=(const IeeeMode&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr unsigned int kDefault = 0x1f80;  // all exceptions masked, none raised, nothing flushed
  unsigned int before_;
#else
  std::fenv_t before_;
#endif
};

}  // namespace reshard
