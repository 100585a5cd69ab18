/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */

/* The public headers as strict C99, without any other header in front of them; the build adds a file for each one
 * alone. */
#include <reshard/reshard.h>
#include <stdio.h>

static int num_wrong = 0;

static void expect(const char* what, size_t found, size_t expected) {
  if (found == expected) return;
  fprintf(stderr, "%s: found %lu, expected %lu\n", what, (unsigned long)found, (unsigned long)expected);
  ++num_wrong;
}

static void check_binary_interface(void) {
#define STRUCT(type, size) expect("size of " #type, sizeof(type), size);
#define FIELD(type, field, offset) expect("offset of " #type "." #field, offsetof(type, field), offset);
#include "header_abi.inc"
#undef STRUCT
#undef FIELD
}

/* Each init function says which struct it was compiled for, whatever lay there before. */
static void check_init_functions(void) {
#define INIT(name, its_version)                                              \
  do {                                                                       \
    union {                                                                  \
      unsigned char bytes[sizeof(reshard_##name##_t)];                       \
      reshard_##name##_t value;                                              \
    } it;                                                                    \
    size_t i;                                                                \
    for (i = 0; i < sizeof it.bytes; ++i) it.bytes[i] = 0xa5;                \
    reshard_##name##_init(&it.value);                                        \
    expect("struct_size of " #name, it.value.struct_size, sizeof(it.value)); \
    expect("version of " #name, it.value.version, its_version);              \
  } while (0)
  INIT(tensor_desc, 1);
  INIT(axis_placement, 1);
  INIT(placement_desc, 2);
  INIT(block, 1);
  INIT(buffer_info, 1);
  INIT(tensor_info, 1);
  INIT(model_options, 2);
  INIT(plan_options, 3);
  INIT(plan_info, 2);
  INIT(comm_options, 3);
  INIT(machine_discover_options, 1);
  INIT(buffer, 1);
  INIT(manifest_tensor, 1);
  INIT(manifest_piece, 1);
  INIT(reload_output, 1);
  INIT(reload_desc, 1);
  INIT(reload_layer, 1);
  INIT(binding_desc, 2);
  INIT(binding_stats, 2);
#undef INIT
}

int main(void) {
  check_binary_interface();
  check_init_functions();
  return num_wrong != 0;
}
