/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */
#ifndef RESHARD_RESHARD_H
#define RESHARD_RESHARD_H

/**
 * @file
 * reshard moves model weights between two parallel layouts. This header includes the others: base.h (status, dtype),
 * layout.h, and reload.h (servers that take new weights layer by layer).
 *
 * The order of use. Everything slow or fallible happens before the first start:
 *
 *   machine   optional: what joins the ranks, from a preset, a file, or what the ranks of a comm find; plans for it
 *             relay, share the links evenly, and come with an estimate and a lower bound
 *   layout    one per side: from a config.json and a line of text, tensor by tensor, or block by block
 *   plan      a pure function of two layouts: no communication, the same value on every rank
 *   comm      the ranks, from a unique id, a callback, or a launcher's environment
 *   binding   plan + comm + this rank's buffers
 *   start ... wait_group ... finish      again and again, allocating nothing
 *
 * Conventions that hold for every function:
 *  - It returns a reshard_status_t; the text of the last failure on the calling thread is reshard_last_error().
 *  - Outputs come last, are written only on success, and handles are set to NULL on failure.
 *  - An argument error leaves no work and no state behind.
 *  - Sizes and offsets are in bytes where the name says so, else in elements; times are in microseconds.
 *  - Strings and arrays passed in are copied; strings and arrays handed out belong to the handle they came from.
 *  - A handle may be used by one thread at a time; different handles may be used by different threads. Reading a layout
 *    (reshard_layout_num_*, _get_*) and binding one plan are allowed on several threads at once. So are a comm and its
 *    bindings, each binding on one thread at a time: their calls take turns, those that wait for a run step by step.
 *    Collective calls (reshard_comm_allgather, reshard_layout_exchange, reshard_machine_discover,
 *    reshard_binding_create, reshard_binding_update) hold the comm until they return, and runs on other threads stand
 * still meanwhile; they must come in the same order on all ranks.
 *  - Structs begin with struct_size and version. Call the struct's init function, then set what differs. It is inline,
 *    and hands on the size that the struct has in this header: reshard_*_init_sized writes no more than that, so that a
 *    program stays right when it was compiled with an older header. What such a program sets is taken as its version
 *    says, or, where the library no longer knows that (or does not know it yet), refused as invalid by its message.
 *    Bindings to other languages call reshard_*_init_sized with the size that they allocate.
 *
 * What is not checked, and undefined: handles that were destroyed or never made; pointers that are not NULL and do not
 * hold what the call says, or not for as long; two threads in one handle at once, but for the exceptions above; a
 * source that changes, or a destination that is read or written before its group is complete, while a run is under way;
 * memory of reshard_alloc that is freed while a binding uses it; a fork() after the first comm was made, and use of the
 * comm in the child. What is read and written of the caller's memory is defined also when a run fails: see
 * reshard_binding_finish.
 */

#include <reshard/base.h>
#include <reshard/layout.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --------------------------------------------------------------------------------------------------- machine */

/**
 * What joins the ranks: GPUs, NVLink domains, NICs, rails, leaf switches, pods; each direction with its rate. From a
 * description (reshard_machine_create), or from the nodes that the ranks run on (reshard_machine_discover).
 */
typedef struct reshard_machine* reshard_machine_t;

/**
 * The machine that a line of text or a file describes, filled with ranks.
 * @param text a preset with settings, e.g. "hgx-h100:nodes=64,leaf=32,oversub=2", or the name of a cluster file (YAML)
 *   or of an NCCL topology XML; topology/README.md lists presets, keys and files.
 * @param segments num_segments >= 1 counts of ranks that add up to the ranks of the layouts: ranks fill the GPUs of
 *   nodes in order, and every segment begins on a node of its own (the trainer's ranks, then the server's).
 * Errors: RESHARD_ERR_INVALID_ARGUMENT naming the key, or file, line and element, or too few nodes; RESHARD_ERR_IO.
 */
RESHARD_API reshard_status_t reshard_machine_create(const char* text, int32_t num_segments, const int32_t* segments,
                                                    reshard_machine_t* machine);

/** Frees the machine. Plans made for it keep what they need. NULL is allowed. */
RESHARD_API void reshard_machine_destroy(reshard_machine_t machine);

/** How many ranks fill it: the sum of its segments. */
RESHARD_API reshard_status_t reshard_machine_num_ranks(reshard_machine_t machine, int32_t* num_ranks);

/**
 * What a reader or a discovery took with doubt: a NIC that serves no GPU, a link that seems too slow, domains that a
 * file leaves open. Each is a line of text that names the file or the host. The machine is as the lines say; show them
 * to the person who described it. [out] num_warnings 0 where nothing was in doubt.
 */
RESHARD_API reshard_status_t reshard_machine_num_warnings(reshard_machine_t machine, int32_t* num_warnings);

/**
 * Warning `index` of [0, num_warnings). [out] warning zero-terminated, without an end of line; owned by the machine.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT for another index.
 */
RESHARD_API reshard_status_t reshard_machine_get_warning(reshard_machine_t machine, int32_t index,
                                                         const char** warning);

/** The machine as JSON text: name, counts, rates, warnings as above. Owned by the machine. */
RESHARD_API reshard_status_t reshard_machine_report_json(reshard_machine_t machine, const char** json);

/* ------------------------------------------------------------------------------------------------------ plan */

/** Which bytes go where, in which order: a plain value, computed without communication, equal on every rank. */
typedef struct reshard_plan* reshard_plan_t;

/**
 * In which orders a server accepts groups. A group is open on a rank from its first byte until its last; a server that
 * quantises or repacks on arrival can hold few open at once.
 */
typedef enum reshard_group_order {
  RESHARD_ORDER_FIXED = 0,   /**< ascending */
  RESHARD_ORDER_ROTATED = 1, /**< ascending from any group on, after the highest the lowest; the plan chooses */
  RESHARD_ORDER_ANY = 2      /**< the plan chooses */
} reshard_group_order_t;

/** What becomes of tensors that only one side has. */
typedef enum reshard_unmatched {
  RESHARD_UNMATCHED_REFUSE = 0, /**< RESHARD_ERR_LAYOUT_MISMATCH, naming one */
  RESHARD_UNMATCHED_SKIP = 1    /**< they are left as they are, and listed: reshard_plan_get_unmatched */
} reshard_unmatched_t;

/** What a plan is to heed; the init function gives the defaults. */
typedef struct reshard_plan_options {
  size_t struct_size;
  uint32_t version;
  int64_t staging_bytes;     /**< most staging memory per rank; default 64 MiB */
  reshard_machine_t machine; /**< of as many ranks as the layouts; NULL: unknown, every rank sends straight to others */
  reshard_group_order_t group_order; /**< which orders of groups every destination rank accepts */
  int64_t open_groups; /**< most groups open on a destination rank at once; 0: no limit, and group_order is void */
  /* Since version 3; version 2 ended here and is still taken. */
  reshard_unmatched_t unmatched; /**< tensors that only one side has */
} reshard_plan_options_t;

/** What a plan is, in numbers. */
typedef struct reshard_plan_info {
  size_t struct_size;
  uint32_t version;
  uint64_t hash;           /**< of everything the plan decides; equal plans have equal hashes */
  int32_t num_ranks;       /**< of the world */
  int64_t num_tensors;     /**< that both sides have */
  int64_t num_groups;      /**< reshard_plan_get_group */
  int64_t num_atoms;       /**< boxes on which neither side's holders change */
  int64_t num_bundles;     /**< sets of atoms with the same holders on both sides */
  int64_t num_messages;    /**< windows that cross ranks */
  int64_t bytes_crossed;   /**< bytes that cross ranks, in wire dtypes */
  int64_t bytes_local;     /**< bytes that stay on their rank, in wire dtypes */
  int64_t staging_bytes;   /**< most staging that any rank uses */
  double planning_seconds; /**< that making it took */
  double estimate_seconds; /**< on the options' machine; 0 without one */
  double bound_seconds;    /**< no plan can be faster on it; 0 without one */
} reshard_plan_info_t;

RESHARD_API void reshard_plan_options_init_sized(reshard_plan_options_t* options, size_t struct_size);
static inline void reshard_plan_options_init(reshard_plan_options_t* options) {
  reshard_plan_options_init_sized(options, sizeof(*options));
}
RESHARD_API void reshard_plan_info_init_sized(reshard_plan_info_t* info, size_t struct_size);
static inline void reshard_plan_info_init(reshard_plan_info_t* info) {
  reshard_plan_info_init_sized(info, sizeof(*info));
}

/**
 * Plans the transfer src -> dst. Pure: no communication, no clock, integers only.
 * @param options NULL for the defaults.
 * Errors: RESHARD_ERR_LAYOUT_MISMATCH (names unless the options skip them, shapes, rank counts, dtypes without a
 * conversion, no name that both sides have),
 * RESHARD_ERR_NOT_COVERED (names tensor, box and rank), RESHARD_ERR_INVALID_ARGUMENT (destination blocks that overlap,
 * ranks that the machine's network does not join), RESHARD_ERR_STAGING_TOO_SMALL.
 * Tensors with scales on one side (reshard_layout_set_scales) are quantised at the source where no border of a piece of
 * its memory cuts a block, else at the destination, and dequantised at the destination; RESHARD_ERR_LAYOUT_MISMATCH
 * names tensor, dimension and borders where neither can be, and scales that would have to be given.
 */
RESHARD_API reshard_status_t reshard_plan_create(reshard_layout_t src, reshard_layout_t dst,
                                                 const reshard_plan_options_t* options, reshard_plan_t* plan);

/**
 * Plans for layouts that differ little from those of an older plan (a replica lost or added), with its options and its
 * machine. What has the same holders and elements keeps its ways, but for ranks that come or go; the report's
 * "replanned" says how much changed. Every rank must plan the same way from equal older plans. Errors as
 * reshard_plan_create; RESHARD_ERR_LAYOUT_MISMATCH for a world of another size.
 */
RESHARD_API reshard_status_t reshard_plan_replan(reshard_plan_t old, reshard_layout_t src, reshard_layout_t dst,
                                                 reshard_plan_t* plan);

/**
 * Plans for a destination whose tensors lie elsewhere than in an older plan, as after a new table of experts, from the
 * same source: reshard_plan_replan, after a check that nothing else has changed. What is untouched keeps its ways; the
 * report's "replanned" says how many tensors and bytes are not. What a run delivers is what it delivers of a plan made
 * anew; the way there may differ, and so does the hash: every rank updates, or none, and whoever binds an older table
 * than the others is refused (RESHARD_ERR_PLAN_MISMATCH at reshard_binding_create and reshard_binding_update).
 * Errors as reshard_plan_replan; RESHARD_ERR_LAYOUT_MISMATCH names a tensor whose shape, dtype, group or scales differ.
 */
RESHARD_API reshard_status_t reshard_plan_update(reshard_plan_t old, reshard_layout_t dst, reshard_plan_t* plan);

/** Frees the plan; bindings and manifests keep what they need of it. NULL is allowed. */
RESHARD_API void reshard_plan_destroy(reshard_plan_t plan);

/** Describes the plan. */
RESHARD_API reshard_status_t reshard_plan_get_info(reshard_plan_t plan, reshard_plan_info_t* info);

/** How many tensors RESHARD_UNMATCHED_SKIP left out. */
RESHARD_API reshard_status_t reshard_plan_num_unmatched(reshard_plan_t plan, int64_t* num_unmatched);

/**
 * The tensors that RESHARD_UNMATCHED_SKIP left out: those of the source, then those of the destination, each in the
 * order of their layout. [out] name is owned by the plan; [out] is_at_source 0 for a tensor that only the destination
 * has and that therefore receives nothing, its padding neither. Either may be NULL.
 */
RESHARD_API reshard_status_t reshard_plan_get_unmatched(reshard_plan_t plan, int64_t index, const char** name,
                                                        int32_t* is_at_source);

/** The groups in ascending order: [out] group the value given with the tensors, for index 0 .. num_groups - 1. */
RESHARD_API reshard_status_t reshard_plan_get_group(reshard_plan_t plan, int64_t index, int64_t* group);

/** The report as JSON text, documented in perf/README.md. Owned by the plan; valid until the next report. */
RESHARD_API reshard_status_t reshard_plan_report_json(reshard_plan_t plan, const char** json);

/**
 * Plays the plan on its machine as fluid, sharing every link max-min fairly; [out] seconds, never below the bound. The
 * report has it from then on. RESHARD_ERR_INVALID_STATE for a plan without a machine.
 */
RESHARD_API reshard_status_t reshard_plan_simulate(reshard_plan_t plan, double* seconds);

/**
 * What a picture of the plan is drawn from, as JSON text documented in perf/README.md: traffic between domains, use of
 * the links over simulated time, the routes of one bundle. Owned by the plan; valid until the next call.
 * @param bundle index of the bundle; -1: the one that brings most bytes over the network.
 * Errors: RESHARD_ERR_INVALID_STATE for a plan without a machine, RESHARD_ERR_INVALID_ARGUMENT for an unknown bundle.
 */
RESHARD_API reshard_status_t reshard_plan_details_json(reshard_plan_t plan, int64_t bundle, const char** json);

/**
 * Which destination rank should take which other's place in the destination layout so that the fewest bytes move, as
 * JSON text: ranks, takes (whose place each takes), moved and network bytes now and then. Nothing is changed by it.
 * Owned by the plan; valid until the next call. RESHARD_ERR_NOT_SUPPORTED above 1250 destination ranks.
 */
RESHARD_API reshard_status_t reshard_plan_advise_json(reshard_plan_t plan, const char** json);

/**
 * What a run of the plan takes that is given to streams as a whole, with messages in groups of NCCL's sends and
 * receives, as JSON text documented in perf/README.md: groups, launches, stages and staging of the busiest ranks. It is
 * counted on paper, for any machine; ranks of one NVLink domain of the plan's machine are taken to read each other's
 * memory. Where counting all ranks would take long, it is of those that send and that receive most, and has_all_ranks
 * says so. Owned by the plan; valid until the next call.
 * @param nccl_version as NCCL codes it: 22809 is 2.28.9. Before 2.29.7 a group may hold few operations.
 * @param max_ctas the most thread blocks that NCCL uses for a message; 0: what a binding takes, 32. With an older NCCL,
 *        the fewer there are the more operations a group may hold.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT for a version below 2.28, or max_ctas below 0.
 */
RESHARD_API reshard_status_t reshard_plan_stream_json(reshard_plan_t plan, int32_t nccl_version, int32_t max_ctas,
                                                      const char** json);

/** Writes the plan to a file. */
RESHARD_API reshard_status_t reshard_plan_save(reshard_plan_t plan, const char* path);

/**
 * Reads a plan back for the layouts and the machine (NULL: none) it was made for; RESHARD_ERR_PLAN_MISMATCH for others,
 * or another version.
 */
RESHARD_API reshard_status_t reshard_plan_load(const char* path, reshard_layout_t src, reshard_layout_t dst,
                                               reshard_machine_t machine, reshard_plan_t* plan);

/* ------------------------------------------------------------------------------------------------------ comm */

/** The ranks of a transfer, connected. */
typedef struct reshard_comm* reshard_comm_t;

/**
 * Made by one rank, carried to the others by any means, as ncclUniqueId is. It holds the secret by which ranks know
 * each other: whoever sees it can join, and nobody else.
 */
typedef struct reshard_unique_id {
  char data[128]; /**< opaque, to be copied as it is */
} reshard_unique_id_t;

/**
 * Out-of-band all-gather that the caller provides, as UCC takes it: every rank contributes size_bytes from `in` and
 * receives num_ranks * size_bytes in rank order in `out`. Returns 0 on success. Called on the thread that called
 * reshard.
 */
typedef int (*reshard_allgather_fn)(const void* in, void* out, size_t size_bytes, void* user);

/** Of the functions that make a comm; the init function gives the defaults. */
typedef struct reshard_comm_options {
  size_t struct_size;
  uint32_t version;
  int64_t timeout_us; /**< for the rendezvous and for every collective of the comm; default 60 s */
  /**
   * The network devices that this rank uses, by UCX's names, separated by commas: "eth0", "mlx5_0:1,mlx5_1:1". NULL:
   * what UCX_NET_DEVICES says, or all; a value here wins over it. Memory shared within a host is used in any case. When
   * none of them is to be had: RESHARD_ERR_INVALID_ARGUMENT. A local comm ignores it.
   */
  const char* net_devices;
  /**
   * Called with a sentence when the ranks take more than two seconds to find each other, and again each time the wait
   * has doubled: for whom this rank waits, and whose variables told it so. NULL, the default: nobody is told, since the
   * library itself prints nothing. Called on the thread that creates the comm, never after; it must not call reshard.
   */
  void (*notice)(const char* text, void* user);
  void* user; /**< given to notice */
} reshard_comm_options_t;

RESHARD_API void reshard_comm_options_init_sized(reshard_comm_options_t* options, size_t struct_size);
static inline void reshard_comm_options_init(reshard_comm_options_t* options) {
  reshard_comm_options_init_sized(options, sizeof(*options));
}

/**
 * Opens the rendezvous that reshard_comm_create_from_id joins. Called by the process that will be rank 0. It holds one
 * listening socket until rank 0 joins or the id is destroyed.
 * @param address the address of this host that the others reach, e.g. "10.0.0.1"; NULL: 127.0.0.1.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT (an address of 0 or more than 63 characters), RESHARD_ERR_TRANSPORT (not one of
 * this host's).
 */
RESHARD_API reshard_status_t reshard_unique_id_create(const char* address, reshard_unique_id_t* id);

/**
 * Closes the rendezvous of an id that rank 0 will not join any more; ranks that try then end in RESHARD_ERR_TIMEOUT.
 * After rank 0 has joined, and on ids of other processes, it does nothing. Not while another thread joins with the id.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT (NULL, or not an id).
 */
RESHARD_API reshard_status_t reshard_unique_id_destroy(const reshard_unique_id_t* id);

/**
 * Joins the ranks of a unique id over UCX. Collective over all num_ranks ranks; options NULL for the defaults.
 * The ranks prove to each other that they hold the id, without sending its secret; strangers on the port are dropped
 * and cost a few bytes for a second at most. After that the connections are neither authenticated nor encrypted.
 * Rank 0 needs a file descriptor for every other rank (ulimit -n), and keeps a thread that sleeps until a rank leaves
 * or dies and then tells the others, whatever rank 0 itself is doing. Once rank 0 has destroyed its comm the others
 * learn of lost ranks no more, only of passed deadlines. Errors: RESHARD_ERR_INVALID_ARGUMENT (rank or num_ranks out of
 * range, or not the same num_ranks on all ranks; a rank twice; a damaged id), RESHARD_ERR_INVALID_STATE (rank 0 in a
 * process that did not make the id, or used it before), RESHARD_ERR_TIMEOUT naming the ranks that did not come,
 * RESHARD_ERR_PEER_FAILED, RESHARD_ERR_TRANSPORT.
 */
RESHARD_API reshard_status_t reshard_comm_create_from_id(const reshard_unique_id_t* id, int32_t rank, int32_t num_ranks,
                                                         const reshard_comm_options_t* options, reshard_comm_t* comm);

/**
 * The same, with the caller's all-gather in place of the rendezvous: it carries rank 0's addresses and the secret to
 * all ranks. `user` must live until this returns. The options' timeout counts from the return of the all-gather, which
 * is the caller's to end.
 */
RESHARD_API reshard_status_t reshard_comm_create_from_callback(reshard_allgather_fn allgather, void* user, int32_t rank,
                                                               int32_t num_ranks, const reshard_comm_options_t* options,
                                                               reshard_comm_t* comm);

/**
 * The same, with rank, size and rendezvous from the environment of mpirun (Open MPI), torchrun or srun; of the one that
 * started this process where the variables of several are set. Every error says which was taken, with its values, and
 * names others that contradict them. RESHARD_ROOT=host:port overrides the rendezvous.
 * Only Open MPI gives its ranks a secret (OMPI_MCA_orte_precondition_transports). For torchrun and srun there is none:
 * who can reach the port and knows the job's name can join, unless RESHARD_SECRET is set, to any text that is hard to
 * guess, the same for all ranks.
 * Errors: those above; RESHARD_ERR_INVALID_STATE names the variables when none is there, RESHARD_ERR_INVALID_ARGUMENT
 * the one that is malformed.
 */
RESHARD_API reshard_status_t reshard_comm_create_from_environment(const reshard_comm_options_t* options,
                                                                  reshard_comm_t* comm);

/** num_ranks connected comms for threads of one process, comms[r] for rank r. All must be destroyed. */
RESHARD_API reshard_status_t reshard_comm_create_local(int32_t num_ranks, const reshard_comm_options_t* options,
                                                       reshard_comm_t* comms);

/**
 * Frees the comm; not collective. NULL is allowed. Bindings keep what they need of it, memory of reshard_alloc
 * included: it lasts until the last of them is destroyed.
 */
RESHARD_API void reshard_comm_destroy(reshard_comm_t comm);

/** Which rank this is, from 0. */
RESHARD_API reshard_status_t reshard_comm_rank(reshard_comm_t comm, int32_t* rank);

/** How many ranks there are. */
RESHARD_API reshard_status_t reshard_comm_size(reshard_comm_t comm, int32_t* num_ranks);

/**
 * Collective: out receives num_ranks * size_bytes in rank order. Also a barrier.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT on every rank when sizes differ, or are more than the 256 MiB per rank that a
 * comm over UCX takes at once, or num_ranks * size_bytes is no size that memory can have; RESHARD_ERR_TIMEOUT,
 * RESHARD_ERR_PEER_FAILED.
 */
RESHARD_API reshard_status_t reshard_comm_allgather(reshard_comm_t comm, const void* in, void* out, size_t size_bytes,
                                                    int64_t timeout_us);

/** In which memory a buffer lies. */
typedef enum reshard_memory_kind {
  RESHARD_MEMORY_HOST = 0, /**< of reshard_alloc, malloc, mmap, ..., pinned or not */
  RESHARD_MEMORY_CUDA = 1  /**< of one CUDA device: of reshard_alloc_on, cudaMalloc, a framework's allocator, ... */
} reshard_memory_kind_t;

/**
 * Memory that peers on the same host can map, so that bytes are copied once, tensor to tensor. Page aligned, zeroed.
 * Any other memory works too, through messages. size_bytes 0 gives a valid pointer to nothing.
 * RESHARD_ERR_OUT_OF_MEMORY when the host, a limit of the process or shared memory has not that much left.
 */
RESHARD_API reshard_status_t reshard_alloc(reshard_comm_t comm, size_t size_bytes, void** ptr);

/**
 * The same in memory of a kind: RESHARD_MEMORY_HOST, with device -1, is reshard_alloc; RESHARD_MEMORY_CUDA is memory of
 * that device, 512-byte aligned, zeroed, which the peers of this host can map, so that one kernel copies tensor to
 * tensor. Device memory from elsewhere works too; whether peers can map it is found out when a binding is created. The
 * caller's current device stays what it was.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT (a kind or a device that there is not), RESHARD_ERR_OUT_OF_MEMORY,
 * RESHARD_ERR_NOT_SUPPORTED (a build without CUDA, no driver, a driver too old, no device: the message says which).
 */
RESHARD_API reshard_status_t reshard_alloc_on(reshard_comm_t comm, reshard_memory_kind_t memory, int32_t device,
                                              size_t size_bytes, void** ptr);

/** Frees memory of reshard_alloc or reshard_alloc_on on the same comm; no binding may use it any more. NULL is allowed.
 */
RESHARD_API reshard_status_t reshard_free(reshard_comm_t comm, void* ptr);

/**
 * CUDA devices that this process sees; their indices are 0 to count - 1.
 * Errors: RESHARD_ERR_NOT_SUPPORTED (a build without CUDA, no driver, a driver too old, no device: the message says
 * which).
 */
RESHARD_API reshard_status_t reshard_device_count(int32_t* count);

/**
 * Copies size_bytes from one place to another that it does not overlap, each on the host or on any device, and returns
 * when they are there. For filling buffers and looking at them; it is ordered after no stream. Runs do not use it.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT (NULL), RESHARD_ERR_TRANSPORT (the device refused).
 */
RESHARD_API reshard_status_t reshard_copy(void* dst, const void* src, size_t size_bytes);

/**
 * Collective: every rank has described only its own buffers and blocks in `local`; `merged` holds all ranks'.
 * Equal descriptions travel once. Tensors are matched by name; RESHARD_ERR_LAYOUT_MISMATCH when shapes differ.
 * RESHARD_ERR_INVALID_ARGUMENT, on every rank when one has it, for placements and for buffers of other ranks.
 */
RESHARD_API reshard_status_t reshard_layout_exchange(reshard_layout_t local, reshard_comm_t comm, int64_t timeout_us,
                                                     reshard_layout_t* merged);

/** Options of reshard_machine_discover. */
typedef struct reshard_machine_discover_options {
  size_t struct_size;
  uint32_t version;
  int32_t
      gpu; /**< this rank's GPU by its index on the node; -1, the default: the rank's place among those of its host */
  int64_t nic_bits_per_s; /**< of NICs whose speed the kernel does not know (virtual ones); 0: those are an error */
  int64_t timeout_us;     /**< for the exchange with the other ranks; default 60 s */
} reshard_machine_discover_options_t;

RESHARD_API void reshard_machine_discover_options_init_sized(reshard_machine_discover_options_t* options,
                                                             size_t struct_size);
static inline void reshard_machine_discover_options_init(reshard_machine_discover_options_t* options) {
  reshard_machine_discover_options_init_sized(options, sizeof(*options));
}

/**
 * The machine that the ranks of a comm run on. Collective: every rank looks at its node (GPUs and NVLink, NICs and
 * their speeds), and all make the same machine of what all found. The fabric between the NICs is not seen: it counts as
 * one without a limit of its own; describe it to reshard_machine_create where it has one. Hosts are told apart by
 * the boot id of their kernel and by name.
 * @param options NULL for the defaults; nic_bits_per_s must be equal on the ranks of a host.
 * Errors, on every rank when one rank has them: RESHARD_ERR_INVALID_ARGUMENT (a NIC of unknown speed, by name; two
 * ranks on one GPU; more ranks than GPUs; ranks that see one host differently), RESHARD_ERR_NOT_SUPPORTED (a build
 * without hwloc, a GPU that is not known), RESHARD_ERR_PLAN_MISMATCH (libraries of different versions),
 * RESHARD_ERR_TIMEOUT.
 */
RESHARD_API reshard_status_t reshard_machine_discover(reshard_comm_t comm,
                                                      const reshard_machine_discover_options_t* options,
                                                      reshard_machine_t* machine);

/* --------------------------------------------------------------------------------------------------- binding */

/** A plan bound to a comm and to this rank's memory: ready to run. */
typedef struct reshard_binding* reshard_binding_t;

/** Where a buffer of a layout lies on this rank; the init function gives host memory. */
typedef struct reshard_buffer {
  size_t struct_size;
  uint32_t version;
  reshard_memory_kind_t memory; /**< the same kind, and device, for all buffers of a rank's binding */
  int64_t id;                   /**< reshard_buffer_info_t.id */
  void* ptr;                    /**< owned by the caller, valid and unmoved until the binding is destroyed */
  size_t size_bytes;            /**< at least reshard_buffer_info_t.size_bytes */
  int32_t device;               /**< index of the device whose memory it is; -1, the default, for host memory */
} reshard_buffer_t;

/** Who runs a binding, the same on all its ranks. */
typedef enum reshard_driver {
  /**
   * NCCL where nccl_comm or capturable ask for it; else NCCL where the buffers of all ranks lie on CUDA devices, every
   * rank finds it, ranks do not share a device that it does not share, and messages of device memory would else go
   * through memory of the host; else RESHARD_DRIVER_POLL. With RESHARD_DRIVER_POLL or _NCCL on another rank: that.
   */
  RESHARD_DRIVER_AUTO = 0,
  /** The thread that calls moves the run on, with messages of the comm. For memory of the host and of devices. */
  RESHARD_DRIVER_POLL = 1,
  /**
   * reshard_binding_start queues all of a run in streams of the device, with sends and receives of NCCL in place of the
   * comm's messages. For device memory. The library libnccl.so.2 (or what the variable RESHARD_NCCL_LIBRARY names), of
   * 2.28 or newer, is loaded when the first binding wants it; one that the process has loaded already is taken.
   */
  RESHARD_DRIVER_NCCL = 2
} reshard_driver_t;

/** What reshard_binding_create binds, as a rank has it. */
typedef struct reshard_binding_desc {
  size_t struct_size;
  uint32_t version;
  reshard_plan_t plan;                 /**< kept alive by the binding */
  reshard_comm_t comm;                 /**< of exactly the plan's number of ranks; kept alive by the binding */
  int64_t num_src_buffers;             /**< length of src_buffers */
  const reshard_buffer_t* src_buffers; /**< every buffer of this rank in the source layout, in any order */
  int64_t num_dst_buffers;             /**< length of dst_buffers */
  const reshard_buffer_t* dst_buffers; /**< every buffer of this rank in the destination layout, in any order */
  int64_t timeout_us;                  /**< for the exchange with the other ranks; default 60 s */
  /* Since version 2; version 1 ended here and is still taken, as if the rest had its defaults. */
  reshard_driver_t driver; /**< default RESHARD_DRIVER_AUTO */
  /**
   * The caller's ncclComm_t, of as many ranks as the comm, each the same rank in both, on the device of the buffers;
   * NULL, the default: the binding makes one of its own. On all ranks or on none. It stays the caller's, who destroys
   * it after the binding; nothing else may use it while a run is under way. It must be of the NCCL that is loaded here.
   */
  void* nccl_comm;
  /**
   * Not 0: a run that fails may revoke nccl_comm (NCCL 2.28.7 or newer), which can then only be destroyed. 0, the
   * default: it is left alone, and what of a failed run waits for peers in streams waits until the caller ends it.
   */
  int32_t may_revoke_nccl_comm;
  /**
   * Not 0: reshard_binding_start may be called while `stream` captures a graph, which then does the run whenever it is
   * launched. Takes a communicator whose calls block, as nccl_comm must be then, and NCCL 2.28.7 or newer; the same on
   * all ranks. Graphs must be gone before the binding. Default 0: such a start is refused.
   */
  int32_t capturable;
  /**
   * Most SMs that NCCL's kernels take, 1 to 64, the same on all ranks; of nccl_comm: what it was made with. 0, the
   * default: NCCL's own choice, at most 32 before 2.29.7; of nccl_comm: not known. Before 2.29.7 it also decides how
   * many messages may go together, 64 of them fewest: reshard_binding_get_driver tells.
   */
  int32_t max_ctas;
  int32_t traffic_class; /**< of NCCL's network messages, 0 to 255; -1, the default: NCCL's own choice */
  /**
   * The CUDA device that a rank without buffers works on, as a relay or as one that has no part in this plan: with NCCL
   * it must have one. -1, the default: none, or the buffers', which say it themselves and may not differ from it.
   */
  int32_t device;
} reshard_binding_desc_t;

/** Counters of one rank's binding. */
typedef struct reshard_binding_stats {
  size_t struct_size;
  uint32_t version;
  int64_t bytes_same_rank;     /**< per run: copied within the rank, in wire dtypes */
  int64_t bytes_mapped;        /**< per run: copied straight from peers' memory by this rank */
  int64_t bytes_sent;          /**< per run: sent through the transport */
  int64_t bytes_received;      /**< per run: received through the transport */
  int64_t messages_sent;       /**< per run: windows sent */
  int64_t staging_bytes;       /**< staging memory allocated by this binding */
  int64_t num_runs;            /**< runs started */
  int64_t num_groups_complete; /**< of the last run, in this rank's order; reshard_binding_poll tells which */
  /* Since version 2; version 1 ended here and is still taken. */
  int64_t scratch_bytes; /**< memory of quantised tensors, beside the staging: computed scales, and tensors that are
                              converted once they landed */
} reshard_binding_stats_t;

RESHARD_API void reshard_buffer_init_sized(reshard_buffer_t* buffer, size_t struct_size);
static inline void reshard_buffer_init(reshard_buffer_t* buffer) {
  reshard_buffer_init_sized(buffer, sizeof(*buffer));
}
RESHARD_API void reshard_binding_desc_init_sized(reshard_binding_desc_t* desc, size_t struct_size);
static inline void reshard_binding_desc_init(reshard_binding_desc_t* desc) {
  reshard_binding_desc_init_sized(desc, sizeof(*desc));
}
RESHARD_API void reshard_binding_stats_init_sized(reshard_binding_stats_t* stats, size_t struct_size);
static inline void reshard_binding_stats_init(reshard_binding_stats_t* stats) {
  reshard_binding_stats_init_sized(stats, sizeof(*stats));
}

/**
 * Binds. Collective, in two phases. First all ranks compare their arguments and the plans' hashes; then those that read
 * each other's memory exchange its keys, every rank builds its program and allocates its staging, and all say whether
 * that went well. So either every rank has a binding, or none has and nothing is left behind. A rank takes part
 * whatever else is wrong, as long as desc is a valid struct with a valid comm. Errors, on every rank when one rank has
 * them: RESHARD_ERR_INVALID_ARGUMENT (NULL plan, missing, unknown or overlapping buffer, negative count),
 * RESHARD_ERR_BUFFER_TOO_SMALL, RESHARD_ERR_LAYOUT_MISMATCH (comm of another size), RESHARD_ERR_PLAN_MISMATCH,
 * RESHARD_ERR_OUT_OF_MEMORY, RESHARD_ERR_TIMEOUT, RESHARD_ERR_PEER_FAILED. Ranks of which some create and others
 * update, or some bind and others reload, all get RESHARD_ERR_INVALID_ARGUMENT that names both calls. For device memory
 * also:
 * RESHARD_ERR_INVALID_ARGUMENT where the driver says that a buffer is of another kind or device than given, or that
 * buffers are of several, RESHARD_ERR_NOT_SUPPORTED where there is no device that works.
 * With NCCL also: RESHARD_ERR_NOT_SUPPORTED (a build without it, no such library, one too old for what is asked, ranks
 * on one device with a version before 2.30), RESHARD_ERR_INVALID_ARGUMENT (memory of the host, a rank without buffers
 * and without a device, an nccl_comm of another size, rank or device or of another library, values out of range, or
 * that differ between ranks), RESHARD_ERR_PLAN_MISMATCH (ranks with different versions of NCCL), RESHARD_ERR_TRANSPORT
 * (what NCCL reports). Memory of a device that a peer cannot map goes through messages (reshard_binding_stats_t tells
 * how much).
 */
RESHARD_API reshard_status_t reshard_binding_create(const reshard_binding_desc_t* desc, reshard_binding_t* binding);

/**
 * Binds to another plan of the same ranks in place of the binding's, as after reshard_plan_update: what has not changed
 * is used again, namely the comm and the driver, buffers that are not given, what peers have mapped of them, the
 * staging where it is large enough, and, over NCCL, the communicator. Keys of memory that moved are exchanged and
 * mapped, and those for ranks that did not read each other before; copies of layers that stayed are kept. Collective,
 * in two phases, as reshard_binding_create. Runs are counted from 0 again. Graphs that captured runs of the binding
 * must be gone.
 * @param desc plan: the new one. comm: NULL, or the binding's. Buffers: only those that lie elsewhere than before (also
 *   where memory was freed and allocated again at the same address), and those that the older plan's layouts have not
 *   got; a buffer that is not given is that of the same id and name. timeout_us as there. The rest as
 *   reshard_binding_desc_init has it.
 * Errors, on every rank when one rank has them, and the binding is as it was, on every rank:
 * those of reshard_binding_create, among them RESHARD_ERR_PLAN_MISMATCH with the hashes of both plans where a rank
 * comes with a stale one; RESHARD_ERR_INVALID_ARGUMENT where other ranks create a binding or a reload meanwhile;
 * RESHARD_ERR_INVALID_STATE in a run; RESHARD_ERR_INVALID_ARGUMENT for a buffer that is not given and had another name,
 * for another comm or driver; RESHARD_ERR_NOT_SUPPORTED where a rank that had no buffers gets some on a device. Over
 * NCCL an error that NCCL itself has may take the communicator with it; then the next start says so. After a run that
 * failed over NCCL an update is allowed, and makes a new communicator. Until it returns both programs are in memory,
 * and over NCCL both stagings.
 */
RESHARD_API reshard_status_t reshard_binding_update(reshard_binding_t binding, const reshard_binding_desc_t* desc);

/**
 * Who runs the binding. [out] driver RESHARD_DRIVER_POLL or RESHARD_DRIVER_NCCL; [out] reason a sentence that says why,
 * and with which library, for people; owned by the binding. Either may be NULL.
 */
RESHARD_API reshard_status_t reshard_binding_get_driver(reshard_binding_t binding, reshard_driver_t* driver,
                                                        const char** reason);

/**
 * Frees the binding; not collective. A run that is under way is abandoned, and peers that still need this rank for
 * their run are told: they fail with RESHARD_ERR_ABANDONED. Takes at most 0.2 s. Afterwards nothing reads or writes the
 * buffers, but for a peer on the same host that may be in the middle of reading a source: what it reads it throws away.
 * NULL is allowed.
 */
RESHARD_API void reshard_binding_destroy(reshard_binding_t binding);

/**
 * Starts a run; returns at once. Collective: runs are counted, and every rank must start each. The source values must
 * not change until reshard_binding_finish returns.
 * @param stream for device memory: a cudaStream_t of that device; the run is ordered after what the stream holds now,
 * so that nothing of sources is read, and nothing of destinations written, before that is done. NULL: CUDA's default
 * stream. It must be NULL for host memory. The stream itself gets no work and is not waited for here.
 * Errors: RESHARD_ERR_INVALID_STATE when the last run was not finished; RESHARD_ERR_INVALID_ARGUMENT for a stream of
 * another device, or with host memory.
 */
RESHARD_API reshard_status_t reshard_binding_start(reshard_binding_t binding, void* stream);

/**
 * Blocks until every tensor of `group` is complete on this rank, and of all groups before it in the order in which this
 * rank gets them (ascending, unless the plan begins with another one), making progress on the whole run meanwhile.
 * Complete means that the destinations hold their values for good: every rank that a byte came from, the source and
 * those that passed it on, has confirmed that it gave the byte of this run; and what this rank passes on of the group
 * to others is sent, too. The caller may read and change the tensors at once. Groups may be waited for in any order, or
 * not at all. A rank passes on, and confirms, what others wait for only inside this call, reshard_binding_start, _poll,
 * _finish. Errors: RESHARD_ERR_INVALID_ARGUMENT for a group that the plan has not got. RESHARD_ERR_TIMEOUT,
 * RESHARD_ERR_ABANDONED, RESHARD_ERR_PEER_FAILED and RESHARD_ERR_TRANSPORT abandon the run, as at
 * reshard_binding_finish.
 */
RESHARD_API reshard_status_t reshard_binding_wait_group(reshard_binding_t binding, int64_t group, int64_t timeout_us);

/**
 * The event that another stream waits for before it uses the tensors of a group on the device:
 * cudaStreamWaitEvent(other_stream, event, 0), before the binding starts its next run. With the driver that polls, once
 * reshard_binding_wait_group, _poll or _finish said that the group is complete; over NCCL right after
 * reshard_binding_start. There the stream goes on when the run has failed, too: the group holds its values only if
 * reshard_binding_finish, or _wait_group for it, returns RESHARD_OK.
 * @param event [out] a cudaEvent_t, owned by the binding.
 * Errors: RESHARD_ERR_INVALID_ARGUMENT for a group that the plan has not got, RESHARD_ERR_INVALID_STATE while it is not
 * known when the group will be complete, RESHARD_ERR_NOT_SUPPORTED for a binding of host memory.
 */
RESHARD_API reshard_status_t reshard_binding_get_group_event(reshard_binding_t binding, int64_t group, void** event);

/**
 * Advances the run by a little without waiting: as long as something moves, and not for long.
 * @param groups [out] the complete groups in the order in which this rank gets them: the first min(capacity, n) of
 * them; may be NULL when capacity is 0.
 * @param num_groups [out] n, how many are complete; may be NULL.
 * @param is_complete [out] not 0 when reshard_binding_finish will return at once; may be NULL.
 * Errors as reshard_binding_wait_group, but for the timeout.
 */
RESHARD_API reshard_status_t reshard_binding_poll(reshard_binding_t binding, int64_t capacity, int64_t* groups,
                                                  int64_t* num_groups, int32_t* is_complete);

/**
 * Blocks until the run is complete, no peer reads this rank's source any more, and this rank has confirmed what it
 * gave. Errors: RESHARD_ERR_TIMEOUT, RESHARD_ERR_PEER_FAILED, RESHARD_ERR_TRANSPORT, and RESHARD_ERR_ABANDONED when a
 * peer that this rank still needs gave the run up, or left. A peer that died or left is told as soon as nothing else
 * moves, not at the deadline. Each error comes at most 0.2 s after the deadline, and abandons the run on this rank:
 *  - The peers that still need this rank are told, and fail at once. None reports a group complete that got bytes of it
 *    which this rank had not confirmed.
 *  - Groups that were complete (reshard_binding_stats_t) stay valid; the other destinations hold anything.
 *  - Nothing of the caller's is written any more, and nothing is read, but for a peer on the same host that may be in
 *    the middle of a copy: what it read it throws away. Sources and destinations may be changed at once; freed, they
 *    cost that peer its run.
 *  - Every rank counts its runs; when all start again from good sources, the run gives the right result.
 * Over NCCL (reshard_binding_get_driver) three of these differ: an error comes at most 1 s after the deadline; the
 * communicator is given up with the run, so that the next start is RESHARD_ERR_INVALID_STATE and all ranks must bind
 * anew; and where the device could not be stopped in that time the message says so, and buffers must be left alone
 * until the device is idle. Another rank that is late may hold up groups that need nothing of it.
 */
RESHARD_API reshard_status_t reshard_binding_finish(reshard_binding_t binding, int64_t timeout_us);

/**
 * Whether what the last run brought is what its sources hold, end to end: the destinations are hashed tensor by tensor,
 * and so are the sources, as converted values where the destination has another dtype. Collective, between
 * reshard_binding_finish and the next start, while sources and destinations are as the run left them; never done unless
 * it is called. Bindings of memory of the host only; where a tensor is made at the destination of what landed (8-bit
 * floats), what landed is compared. Ranks that hold the same elements at the source must hold equal bytes.
 * Errors, the same on all ranks: RESHARD_ERR_DATA_MISMATCH names a tensor and the ranks that hold something else of it;
 * RESHARD_ERR_INVALID_STATE before the first run or within one, RESHARD_ERR_NOT_SUPPORTED for memory of a device;
 * RESHARD_ERR_TIMEOUT, RESHARD_ERR_PEER_FAILED. No error harms the binding.
 */
RESHARD_API reshard_status_t reshard_binding_verify(reshard_binding_t binding, int64_t timeout_us);

/** This rank's counters, of the binding and of its last run. */
RESHARD_API reshard_status_t reshard_binding_get_stats(reshard_binding_t binding, reshard_binding_stats_t* stats);

#ifdef __cplusplus
}
#endif

#include <reshard/reload.h>

#endif /* RESHARD_RESHARD_H */
