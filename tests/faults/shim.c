/* Preloaded into a process that knows nothing of it (ld.so(8)): lets fsync fail or take its time, and sets the clock.
   What is to happen stands in the file that SIDECAR_FAULTS names; it is mapped, so that a change holds at once. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct faults {
    int32_t fsync_errno;
    int32_t fsync_milliseconds;
    int64_t clock_seconds;
};

static const struct faults none;
static const volatile struct faults *faults = &none;

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("SIDECAR_FAULTS");
    int file = name == NULL ? -1 : open(name, O_RDONLY | O_CLOEXEC);
    void *where;

    if (file < 0)
        return;
    where = mmap(NULL, sizeof(struct faults), PROT_READ, MAP_SHARED, file, 0);
    if (where != MAP_FAILED)
        faults = where;
    close(file);
}

static int sync_or_fail(int number, int descriptor)
{
    struct timespec pause = {
        .tv_sec = faults->fsync_milliseconds / 1000,
        .tv_nsec = faults->fsync_milliseconds % 1000 * 1000000L,
    };

    nanosleep(&pause, NULL);
    if (faults->fsync_errno != 0) {
        errno = faults->fsync_errno;
        return -1;
    }
    return (int)syscall(number, descriptor);
}

int fsync(int descriptor)
{
    return sync_or_fail(SYS_fsync, descriptor);
}

int fdatasync(int descriptor)
{
    return sync_or_fail(SYS_fdatasync, descriptor);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int status = (int)syscall(SYS_clock_gettime, clock, now);

    if (status == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += faults->clock_seconds;
    return status;
}

time_t time(time_t *now)
{
    struct timespec both;

    clock_gettime(CLOCK_REALTIME, &both);
    if (now != NULL)
        *now = both.tv_sec;
    return both.tv_sec;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec both;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &both);
    now->tv_sec = both.tv_sec;
    now->tv_usec = both.tv_nsec / 1000;
    return 0;
}
