/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */

/*
 * The baseline of the host copies: MPI_Alltoallw with subarray datatypes moves an N x N matrix of floats on 4 ranks
 * from blocks of 256 x 256 dealt out over a 2 x 2 grid to blocks of 1024 rows dealt out over 4 ranks (perf/specs/
 * blocks_8192.json is the same redistribution). Every element is checked. One line of JSON on standard output.
 *
 * usage: mpirun -n 4 bench_alltoallw [ITERATIONS [WARMUP]]
 */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { kSize = 8192, kNumRanks = 4, kGrid = 2, kSrcBlock = 256, kDstBlock = 1024, kMaxIterations = 1000 };
enum {
  kSrcSide = kSize / kGrid,                    /* the source shard is kSrcSide x kSrcSide */
  kDstRows = kSize / kNumRanks,                /* the destination shard is kDstRows x kSize */
  kDstBlocks = kSize / kDstBlock / kNumRanks,  /* blocks of rows per destination rank */
  kRowsPerPair = kDstBlock / kGrid,            /* source rows in one destination block */
  kColBlocks = kSrcSide / kSrcBlock,           /* column blocks per source rank */
  kPairBlocks = kDstRows / (kGrid * kSrcBlock) /* row blocks a destination has of one source */
};

/* Global index of block-cyclic local index: blocks of `block` dealt out to `num` owners. */
static int64_t global_of(int64_t local, int64_t owner, int64_t block, int64_t num) {
  return (local / block * num + owner) * block + local % block;
}

static float value_of(int64_t row, int64_t col) {
  return (float)((row * kSize + col) % 16777213);
}

static MPI_Datatype subarray(int num_dims, const int* sizes, const int* subsizes, const int* starts) {
  MPI_Datatype type;
  MPI_Type_create_subarray(num_dims, sizes, subsizes, starts, MPI_ORDER_C, MPI_FLOAT, &type);
  MPI_Type_commit(&type);
  return type;
}

/* What a source sends: of its rows, those of the destination's blocks; all its columns. */
static MPI_Datatype send_type(int dst) {
  const int sizes[] = {kDstBlocks, kNumRanks, kRowsPerPair * kSrcSide};
  const int subsizes[] = {kDstBlocks, 1, kRowsPerPair * kSrcSide};
  const int starts[] = {0, dst, 0};
  return subarray(3, sizes, subsizes, starts);
}

/* Where a destination puts it: every other row block and every other column block of its shard. */
static MPI_Datatype recv_type(int src) {
  const int sizes[] = {kPairBlocks, kGrid * kSrcBlock, kColBlocks, kGrid * kSrcBlock};
  const int subsizes[] = {kPairBlocks, kSrcBlock, kColBlocks, kSrcBlock};
  const int starts[] = {0, src / kGrid * kSrcBlock, 0, src % kGrid * kSrcBlock};
  return subarray(4, sizes, subsizes, starts);
}

static void fill(float* shard, int rank) {
  for (int64_t row = 0; row < kSrcSide; ++row) {
    for (int64_t col = 0; col < kSrcSide; ++col) {
      shard[row * kSrcSide + col] =
          value_of(global_of(row, rank / kGrid, kSrcBlock, kGrid), global_of(col, rank % kGrid, kSrcBlock, kGrid));
    }
  }
}

static int64_t count_wrong(const float* shard, int rank) {
  int64_t wrong = 0;
  for (int64_t row = 0; row < kDstRows; ++row) {
    for (int64_t col = 0; col < kSize; ++col) {
      wrong += shard[row * kSize + col] != value_of(global_of(row, rank, kDstBlock, kNumRanks), col);
    }
  }
  return wrong;
}

static int compare_doubles(const void* a, const void* b) {
  const double x = *(const double*)a;
  const double y = *(const double*)b;
  return (x > y) - (x < y);
}

static void print_result(double* seconds, int iterations, int64_t wrong) {
  qsort(seconds, (size_t)iterations, sizeof *seconds, compare_doubles);
  printf("{\"iterations\": %d, \"wrong_elements\": %lld, \"run_seconds\": {\"median\": %.9f, \"min\": %.9f}}\n",
         iterations, (long long)wrong, seconds[iterations / 2], seconds[0]);
}

/* Times the slowest rank of each iteration; the first `warmup` of them are not kept. */
static void run(float* src, float* dst, int iterations, int warmup, double* seconds) {
  MPI_Datatype send_types[kNumRanks], recv_types[kNumRanks];
  const int counts[kNumRanks] = {1, 1, 1, 1}, offsets[kNumRanks] = {0};
  for (int peer = 0; peer < kNumRanks; ++peer) {
    send_types[peer] = send_type(peer);
    recv_types[peer] = recv_type(peer);
  }
  for (int i = -warmup; i < iterations; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    const double begin = MPI_Wtime();
    MPI_Alltoallw(src, counts, offsets, send_types, dst, counts, offsets, recv_types, MPI_COMM_WORLD);
    const double mine = MPI_Wtime() - begin;
    double slowest;
    MPI_Allreduce(&mine, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    if (i >= 0) seconds[i] = slowest;
  }
  for (int peer = 0; peer < kNumRanks; ++peer) {
    MPI_Type_free(&send_types[peer]);
    MPI_Type_free(&recv_types[peer]);
  }
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank, num_ranks;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &num_ranks);
  const int iterations = argc > 1 ? atoi(argv[1]) : 10;
  const int warmup = argc > 2 ? atoi(argv[2]) : 2;
  float* src = malloc(sizeof(float) * kSrcSide * kSrcSide);
  float* dst = calloc((size_t)kDstRows * kSize, sizeof(float));
  if (num_ranks != kNumRanks || iterations < 1 || iterations > kMaxIterations || warmup < 0 || !src || !dst) {
    fprintf(stderr, "usage: mpirun -n %d bench_alltoallw [ITERATIONS 1..%d [WARMUP]], with 128 MiB per rank\n",
            kNumRanks, kMaxIterations);
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  static double seconds[kMaxIterations];
  fill(src, rank);
  run(src, dst, iterations, warmup, seconds);
  const int64_t mine = count_wrong(dst, rank);
  int64_t wrong;
  MPI_Allreduce(&mine, &wrong, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  if (rank == 0) print_result(seconds, iterations, wrong);
  free(src);
  free(dst);
  MPI_Finalize();
  return wrong != 0;
}
