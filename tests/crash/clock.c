/* The machine's clock as a test wants it: so many seconds, as text in the file that TEST_CLOCK names, are added to it. Clocks
   that only ever go forward are left alone, as they are when somebody sets the clock. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t which, struct timespec *now)
{
    long result = syscall(SYS_clock_gettime, which, now);
    const char *path = getenv("TEST_CLOCK");
    if (result != 0 || which != CLOCK_REALTIME || path == NULL)
        return (int)result;
    char text[32] = {0};
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    if (read(file, text, sizeof text - 1) > 0)
        now->tv_sec += atol(text);
    close(file);
    return 0;
}
