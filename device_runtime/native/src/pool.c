/* A small thread pool. The caller's thread and threads-1 workers claim task numbers from one atomic word; the caller waits
 * only for tasks that somebody claimed, never for a worker that has not woken up, so that a busy machine costs nothing but
 * the lost help. Workers spin a little between operators (the gap is microseconds) and then sleep. */
#include "core.h"

#if defined(__wasm__)

gs_pool *gs_pool_open(uint32_t threads) {
  (void)threads;
  return NULL;
}
void gs_pool_close(gs_pool *pool) { (void)pool; }
void gs_pool_run(gs_pool *pool, uint32_t n, gs_task task, void *arg) {
  (void)pool;
  for (uint32_t i = 0; i < n; i++) task(arg, i, 0);
}

#else

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define SPINS 2000

struct worker {
  gs_pool *pool;
  uint32_t thread;
  pthread_t handle;
};

struct gs_pool {
  uint32_t n_workers;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  atomic_uint sleepers;
  atomic_bool stop;
  /* Number of the job in the upper half, tasks that nobody has claimed in the lower. A claim is one compare-and-swap. The
   * fields below change only while nothing is left to claim, and every value of this word is claimed once: whoever
   * succeeds read the fields of that job. */
  _Alignas(64) _Atomic uint64_t claim; /* on a line of its own, like done: every claim and every end moves one between cores */
  _Alignas(64) _Atomic(gs_task) task;
  _Atomic(void *) arg;
  atomic_uint n;
  _Alignas(64) atomic_uint done;
  _Alignas(64) struct worker workers[];
};

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

/* Runs one task if there is one. */
static bool take_task(gs_pool *p, uint32_t thread) {
  uint64_t claim = atomic_load(&p->claim);
  while ((uint32_t)claim != 0) {
    gs_task task = atomic_load_explicit(&p->task, memory_order_relaxed);
    void *arg = atomic_load_explicit(&p->arg, memory_order_relaxed);
    uint32_t index = atomic_load_explicit(&p->n, memory_order_relaxed) - (uint32_t)claim;
    if (!atomic_compare_exchange_weak(&p->claim, &claim, claim - 1)) continue; /* claim is the present value now */
    task(arg, index, thread);
    atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
    return true;
  }
  return false;
}

static uint32_t job_of(gs_pool *p) { return (uint32_t)(atomic_load(&p->claim) >> 32); }

static void sleep_until_next_job(gs_pool *p, uint32_t seen) {
  pthread_mutex_lock(&p->lock);
  atomic_fetch_add(&p->sleepers, 1); /* before the look at the job: whoever starts one sees it, or we see the job */
  while (job_of(p) == seen && !atomic_load(&p->stop)) pthread_cond_wait(&p->wake, &p->lock);
  atomic_fetch_sub(&p->sleepers, 1);
  pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *arg) {
  struct worker *self = arg;
  gs_pool *p = self->pool;
  uint32_t seen = 0;
  while (!atomic_load(&p->stop)) {
    for (int i = 0; i < SPINS && job_of(p) == seen; i++) relax();
    if (job_of(p) == seen) {
      sleep_until_next_job(p, seen);
      continue;
    }
    seen = job_of(p);
    while (take_task(p, self->thread)) {
    }
  }
  return NULL;
}

static void wake_sleepers(gs_pool *p) {
  if (atomic_load(&p->sleepers) == 0) return;
  pthread_mutex_lock(&p->lock);
  pthread_cond_broadcast(&p->wake);
  pthread_mutex_unlock(&p->lock);
}

gs_pool *gs_pool_open(uint32_t threads) {
  uint32_t workers = threads - 1;
  gs_pool *p = gs_alloc(sizeof *p + workers * sizeof(struct worker));
  if (p == NULL) return NULL;
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->wake, NULL);
  for (uint32_t i = 0; i < workers; i++) {
    p->workers[i].pool = p;
    p->workers[i].thread = i + 1;
    if (pthread_create(&p->workers[i].handle, NULL, worker_main, &p->workers[i]) != 0) {
      gs_pool_close(p);
      return NULL;
    }
    p->n_workers++;
  }
  return p;
}

void gs_pool_close(gs_pool *p) {
  if (p == NULL) return;
  atomic_store(&p->stop, true);
  wake_sleepers(p);
  for (uint32_t i = 0; i < p->n_workers; i++) pthread_join(p->workers[i].handle, NULL);
  pthread_cond_destroy(&p->wake);
  pthread_mutex_destroy(&p->lock);
  gs_free(p);
}

void gs_pool_run(gs_pool *p, uint32_t n, gs_task task, void *arg) {
  if (p == NULL || n <= 1) {
    for (uint32_t i = 0; i < n; i++) task(arg, i, 0);
    return;
  }
  atomic_store_explicit(&p->task, task, memory_order_relaxed);
  atomic_store_explicit(&p->arg, arg, memory_order_relaxed);
  atomic_store_explicit(&p->n, n, memory_order_relaxed);
  atomic_store_explicit(&p->done, 0, memory_order_relaxed);
  atomic_store(&p->claim, ((atomic_load(&p->claim) >> 32) + 1) << 32 | n);
  wake_sleepers(p);
  while (take_task(p, 0)) {
  }
  for (int i = 0; atomic_load_explicit(&p->done, memory_order_acquire) != n; i++) {
    relax();
    if (i > SPINS) { /* more threads than cores: let whoever holds a task have this one */
      sched_yield();
      i = 0;
    }
  }
}

#endif
