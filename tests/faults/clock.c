/* A wall clock that jumps by years, back and forth, at every reading. Steady clocks are left as they are. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static atomic_uint readings;

static time_t somewhere(void) {
    /* 1970 to 2106, in steps that do not repeat soon. */
    return (time_t)(atomic_fetch_add(&readings, 1) * 2654435761u);
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    long status = syscall(SYS_clock_gettime, clock, t);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) t->tv_sec = somewhere();
    return (int)status;
}

int gettimeofday(struct timeval *t, void *zone) {
    (void)zone;
    t->tv_sec = somewhere();
    t->tv_usec = 0;
    return 0;
}

time_t time(time_t *t) {
    time_t now = somewhere();
    if (t) *t = now;
    return now;
}
