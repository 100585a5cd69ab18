/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */

/* The public header as strict C99, without any other header in front of it. */
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
#define INIT(name)                                                           \
  do {                                                                       \
    union {                                                                  \
      unsigned char bytes[sizeof(reshard_##name##_t)];                       \
      reshard_##name##_t value;                                              \
    } it;                                                                    \
    size_t i;                                                                \
    for (i = 0; i < sizeof it.bytes; ++i) it.bytes[i] = 0xa5;                \
    reshard_##name##_init(&it.value);                                        \
    expect("struct_size of " #name, it.value.struct_size, sizeof(it.value)); \
    expect("version of " #name, it.value.version, 1);                        \
  } while (0)
  INIT(tensor_desc);
  INIT(placement_desc);
  INIT(block);
  INIT(buffer_info);
  INIT(tensor_info);
  INIT(model_options);
  INIT(plan_options);
  INIT(plan_info);
  INIT(comm_options);
  INIT(binding_desc);
  INIT(binding_stats);
#undef INIT
}

int main(void) {
  check_binary_interface();
  check_init_functions();
  return num_wrong != 0;
}
