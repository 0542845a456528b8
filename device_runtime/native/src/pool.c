/* A small thread pool: the caller's thread and threads-1 workers take task indices from one counter. Workers spin a
 * little between operators (the gap is microseconds) and then sleep. */
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

#define SPINS 4000

struct worker {
  gs_pool *pool;
  uint32_t thread;
  pthread_t handle;
};

struct gs_pool {
  uint32_t n_workers;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  atomic_uint generation; /* raised once per job */
  atomic_uint next;       /* next task index */
  atomic_uint busy;       /* workers that have not finished the job */
  bool stop;              /* written before generation is raised */
  gs_task task;
  void *arg;
  uint32_t n;
  struct worker workers[];
};

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

static void take_tasks(gs_pool *p, uint32_t thread) {
  for (;;) {
    uint32_t i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
    if (i >= p->n) return;
    p->task(p->arg, i, thread);
  }
}

static void *worker_main(void *arg) {
  struct worker *self = arg;
  gs_pool *p = self->pool;
  unsigned seen = 0;
  for (;;) {
    unsigned now = atomic_load_explicit(&p->generation, memory_order_acquire);
    for (int i = 0; now == seen && i < SPINS; i++) {
      relax();
      now = atomic_load_explicit(&p->generation, memory_order_acquire);
    }
    if (now == seen) {
      pthread_mutex_lock(&p->lock);
      while ((now = atomic_load_explicit(&p->generation, memory_order_acquire)) == seen)
        pthread_cond_wait(&p->wake, &p->lock);
      pthread_mutex_unlock(&p->lock);
    }
    seen = now;
    if (p->stop) return NULL;
    take_tasks(p, self->thread);
    atomic_fetch_sub_explicit(&p->busy, 1, memory_order_release);
  }
}

static void start_job(gs_pool *p) {
  pthread_mutex_lock(&p->lock);
  atomic_fetch_add_explicit(&p->generation, 1, memory_order_release);
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
  p->stop = true;
  start_job(p);
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
  p->task = task;
  p->arg = arg;
  p->n = n;
  atomic_store_explicit(&p->next, 0, memory_order_relaxed);
  atomic_store_explicit(&p->busy, p->n_workers, memory_order_relaxed);
  start_job(p);
  take_tasks(p, 0);
  for (int i = 0; atomic_load_explicit(&p->busy, memory_order_acquire) != 0; i++) {
    relax();
    if (i > SPINS) { /* more threads than cores: let a worker have this one */
      sched_yield();
      i = 0;
    }
  }
}

#endif
