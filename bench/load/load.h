/* What every load generator shares: the clock, its own CPU, memory, and the talk with the
 * harness. A generator stands still, with nothing in flight, whenever the harness reads
 * the server's CPU, so that the window's CPU belongs to the window's messages exactly:
 *
 *   connect → warm up → drain → "ready" → (a line on stdin) → measure → drain
 *           → one line of JSON → (a line on stdin, or its end)
 *           → maybe another, of what could not be known before → disconnect
 */
#ifndef LOAD_H
#define LOAD_H

#include <stddef.h>
#include <stdint.h>

struct histogram;

uint64_t now_ns(void);     /* monotonic */
uint64_t own_cpu_ns(void); /* user and system time of this process */

/* Zeroed memory that lives as long as the process. */
void *allocate(size_t size);

/* Write one line to the harness and wait for its answer. */
void tell_and_wait(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Wait for a line of the harness, or its end. */
void wait_for_line(void);

/* Tell the figures of a window, each message one sample of the latencies, and wait. */
void tell_figures(const struct histogram *latencies, uint64_t elapsed_ns, uint64_t cpu_ns);

/* The same without waiting, for a generator that has something to do meanwhile. */
void say_figures(const struct histogram *latencies, uint64_t elapsed_ns, uint64_t cpu_ns);

/* Say what went wrong on stderr and exit with status 1. */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
