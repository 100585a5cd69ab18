/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */

/*
 * A model goes from a trainer to servers: ranks 0 to 3 hold it as FSDP2 does, ranks 4 to 7 take it as two replicas of
 * vLLM with two tensor-parallel ranks each. Both layouts come from config.json and a line of text; nobody writes down a
 * block. Every byte that arrives is compared with what vLLM's parameters must hold, by formulas that stand below and
 * ask the library for nothing.
 *
 * usage: eight_processes CONFIG.json        in each of eight processes that mpirun, torchrun or srun started
 */
#include <reshard/reshard.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kTrainers = 4, kTensorParallel = 2, kReplicas = 2, kRanks = kTrainers + kTensorParallel * kReplicas };
enum { kMostBuffers = 256, kSteps = 3, kTimeoutUs = 20000000 };
enum { kHidden = 64, kVocab = 320, kHeads = 4, kKvHeads = 2, kHeadDim = 24, kFfn = 96 }; /* as small_model.json says */

static void check(reshard_status_t status) {
  if (status == RESHARD_OK) return;
  fprintf(stderr, "%s: %s\n", reshard_status_name(status), reshard_last_error());
  exit(1);
}

static int ends_with(const char* text, const char* end) {
  const size_t length = strlen(text), end_length = strlen(end);
  return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* ---- what the model's tensors are and hold */

/* The parts of names that say what a tensor is, with its whole shape; cols 0: a vector. */
typedef struct Kind {
  const char* name;
  int rows, cols;
} Kind;

static const Kind kKinds[] = {{"q_proj", kHeads* kHeadDim, kHidden},
                              {"k_proj", kKvHeads* kHeadDim, kHidden},
                              {"v_proj", kKvHeads* kHeadDim, kHidden},
                              {"o_proj", kHidden, kHeads* kHeadDim},
                              {"gate_proj", kFfn, kHidden},
                              {"up_proj", kFfn, kHidden},
                              {"down_proj", kHidden, kFfn},
                              {"embed_tokens", kVocab, kHidden},
                              {"lm_head", kVocab, kHidden},
                              {"q_norm", kHeadDim, 0},
                              {"k_norm", kHeadDim, 0},
                              {"layernorm", kHidden, 0},
                              {"model.norm", kHidden, 0}};
enum { kNumKinds = sizeof kKinds / sizeof kKinds[0] };

static const Kind* kind_of(const char* tensor) {
  for (int i = 0; i < kNumKinds; ++i) {
    char end[64];
    snprintf(end, sizeof end, "%s.weight", kKinds[i].name);
    if (ends_with(tensor, end)) return &kKinds[i];
  }
  fprintf(stderr, "%s is no tensor of this model\n", tensor);
  exit(1);
}

/* The value of an element in a step: whole numbers, which F32 holds exactly. */
static float value_of(int step, const char* tensor, int row, int col) {
  unsigned hash = 2166136261U;
  for (; *tensor != 0; ++tensor) hash = (hash ^ (unsigned char)*tensor) * 16777619U;
  hash = hash * 31U + (unsigned)step * 1000003U + (unsigned)row * 8191U + (unsigned)col * 131U;
  return (float)(hash >> 9);
}

/* ---- the trainer's memory: FSDP2 cuts dimension 0 of every tensor into as many parts as there are ranks */

static void train(int step, int rank, const char* tensor, float* values) {
  const Kind* kind = kind_of(tensor);
  const int rows = kind->rows / kTrainers, cols = kind->cols > 0 ? kind->cols : 1;
  for (int i = 0; i < rows * cols; ++i) values[i] = value_of(step, tensor, rank * rows + i / cols, i % cols);
}

/* ---- the server's: which tensor lies in which parameter of vLLM, one after the other */

/* A fused parameter, and the tensors that it is made of. */
static const char* const kFused[][4] = {{"qkv_proj", "q_proj", "k_proj", "v_proj"},
                                        {"gate_up_proj", "gate_proj", "up_proj", NULL}};

/* `parameter` with `from` in it replaced by `to`. */
static void rename_part(const char* parameter, const char* from, const char* to, char* out, size_t size) {
  const char* at = strstr(parameter, from);
  snprintf(out, size, "%.*s%s%s", (int)(at - parameter), parameter, to, at + strlen(from));
}

/* Compares this rank's part of one tensor, which lies dense at `values`; returns how many elements that is. */
static int check_tensor(int step, int tp_rank, const char* tensor, const float* values) {
  const Kind* kind = kind_of(tensor);
  const int is_whole = kind->cols == 0; /* norms */
  const int is_by_columns = ends_with(tensor, "o_proj.weight") || ends_with(tensor, "down_proj.weight");
  const int rows = is_whole || is_by_columns ? kind->rows : kind->rows / kTensorParallel;
  const int cols = is_whole ? 1 : is_by_columns ? kind->cols / kTensorParallel : kind->cols;
  const int first_row = is_whole || is_by_columns ? 0 : tp_rank * rows, first_col = is_by_columns ? tp_rank * cols : 0;
  for (int i = 0; i < rows * cols; ++i) {
    const int row = first_row + i / cols, col = first_col + i % cols;
    if (values[i] == value_of(step, tensor, row, col)) continue;
    fprintf(stderr, "step %d: element (%d, %d) of %s is wrong\n", step, row, col, tensor);
    exit(1);
  }
  return rows * cols;
}

static int check_parameter(int step, int tp_rank, const char* parameter, const float* values) {
  int count = 0;
  for (size_t f = 0; f < sizeof kFused / sizeof kFused[0]; ++f) {
    if (strstr(parameter, kFused[f][0]) == NULL) continue;
    for (int part = 1; part < 4 && kFused[f][part] != NULL; ++part) {
      char tensor[256];
      rename_part(parameter, kFused[f][0], kFused[f][part], tensor, sizeof tensor);
      count += check_tensor(step, tp_rank, tensor, values + count);
    }
    return count;
  }
  return check_tensor(step, tp_rank, parameter, values);
}

/* ---- reshard */

static char* read_file(const char* path) {
  FILE* file = fopen(path, "rb");
  char* text = calloc(1, 65536);
  if (file == NULL || text == NULL || fread(text, 1, 65535, file) == 0) {
    fprintf(stderr, "cannot read %s\n", path);
    exit(1);
  }
  fclose(file);
  return text;
}

static reshard_layout_t make_layout(const char* config, const char* text, int32_t first_rank) {
  reshard_model_options_t options;
  reshard_layout_t layout = NULL;
  reshard_model_options_init(&options);
  options.config_json = config;
  options.layout = text;
  options.first_rank = first_rank;
  options.num_ranks = kRanks;
  options.dtype = "F32";
  check(reshard_layout_create_from_model(&options, &layout));
  return layout;
}

/* What this rank must bring for one side, in memory that its peers can map. Names belong to the layout. */
typedef struct Side {
  int64_t count;
  reshard_buffer_t buffers[kMostBuffers];
  const char* names[kMostBuffers];
} Side;

static void make_side(reshard_comm_t comm, reshard_layout_t layout, int32_t rank, Side* side) {
  check(reshard_layout_num_buffers(layout, rank, &side->count));
  if (side->count > kMostBuffers) exit(1);
  for (int64_t i = 0; i < side->count; ++i) {
    reshard_buffer_info_t info;
    reshard_buffer_info_init(&info);
    check(reshard_layout_get_buffer(layout, rank, i, &info));
    reshard_buffer_init(&side->buffers[i]);
    side->buffers[i].id = info.id;
    side->buffers[i].size_bytes = (size_t)info.size_bytes;
    side->names[i] = info.name;
    check(reshard_alloc(comm, (size_t)info.size_bytes, &side->buffers[i].ptr));
  }
}

static void run_steps(reshard_binding_t binding, int32_t rank, const Side* trained, const Side* served) {
  int64_t num_checked = 0;
  for (int step = 0; step < kSteps; ++step) {
    for (int64_t i = 0; i < trained->count; ++i) train(step, rank, trained->names[i], trained->buffers[i].ptr);
    check(reshard_binding_start(binding, NULL));
    check(reshard_binding_finish(binding, kTimeoutUs));
    for (int64_t i = 0; i < served->count; ++i) {
      const int tp_rank = (rank - kTrainers) % kTensorParallel;
      const int count = check_parameter(step, tp_rank, served->names[i], served->buffers[i].ptr);
      if ((size_t)count * sizeof(float) != served->buffers[i].size_bytes) {
        fprintf(stderr, "%s has another size than vLLM's\n", served->names[i]);
        exit(1);
      }
      num_checked += count;
    }
  }
  if (served->count > 0) printf("rank %d: %lld elements are right\n", (int)rank, (long long)num_checked);
}

int main(int argc, char** argv) {
  static Side trained, served;
  reshard_comm_t comm = NULL;
  reshard_plan_t plan = NULL;
  reshard_binding_t binding = NULL;
  reshard_binding_desc_t desc;
  int32_t rank = -1, ranks[kRanks];
  char* config;
  if (argc != 2) return fprintf(stderr, "usage: eight_processes CONFIG.json\n"), 2;
  config = read_file(argv[1]);
  reshard_layout_t src = make_layout(config, "fsdp:shard=4", 0);
  reshard_layout_t dst = make_layout(config, "vllm:tp=2,replicas=2", kTrainers);
  check(reshard_plan_create(src, dst, NULL, &plan)); /* pure: the same in every process */
  check(reshard_comm_create_from_environment(NULL, &comm));
  check(reshard_comm_rank(comm, &rank));
  make_side(comm, src, rank, &trained); /* a server's is empty, and so is a trainer's other side */
  make_side(comm, dst, rank, &served);

  reshard_binding_desc_init(&desc);
  desc.plan = plan;
  desc.comm = comm;
  desc.num_src_buffers = trained.count;
  desc.src_buffers = trained.buffers;
  desc.num_dst_buffers = served.count;
  desc.dst_buffers = served.buffers;
  check(reshard_binding_create(&desc, &binding));
  run_steps(binding, rank, &trained, &served);

  reshard_binding_destroy(binding);
  check(reshard_comm_allgather(comm, &rank, ranks, sizeof rank, kTimeoutUs)); /* a barrier */
  for (int64_t i = 0; i < trained.count; ++i) check(reshard_free(comm, trained.buffers[i].ptr));
  for (int64_t i = 0; i < served.count; ++i) check(reshard_free(comm, served.buffers[i].ptr));
  reshard_comm_destroy(comm);
  reshard_plan_destroy(plan);
  reshard_layout_destroy(src);
  reshard_layout_destroy(dst);
  free(config);
  return 0;
}
