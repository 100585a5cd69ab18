// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <reshard/reshard.h>

#include <cstdio>
#include <cstring>
#include <string>

// The public header from C++11, without any other header in front of it; and the loaded library is the one it
// describes.
int main() {
  const std::string expected = std::to_string(RESHARD_VERSION_MAJOR) + "." + std::to_string(RESHARD_VERSION_MINOR) +
                               "." + std::to_string(RESHARD_VERSION_PATCH);
  const char* loaded = reshard_version();
  if (expected == loaded && std::strcmp(reshard_status_name(RESHARD_ERR_TIMEOUT), "RESHARD_ERR_TIMEOUT") == 0) return 0;
  std::printf("header %s, library %s, status name %s\n", expected.c_str(), loaded,
              reshard_status_name(RESHARD_ERR_TIMEOUT));
  return 1;
}
