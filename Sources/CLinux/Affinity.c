#define _GNU_SOURCE 1
#include "CLinux.h"
#include <sys/syscall.h>
#include <unistd.h>

// The system calls themselves: the library's wrappers hide how many bytes the kernel uses.
long godwit_get_affinity(pid_t thread, void *mask, unsigned long size) {
  return syscall(SYS_sched_getaffinity, thread, size, mask);
}
int godwit_set_affinity(pid_t thread, const void *mask, unsigned long size) {
  return (int)syscall(SYS_sched_setaffinity, thread, size, mask);
}
