#define _GNU_SOURCE 1
#include "CLinux.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int godwit_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
int godwit_pidfd_send_signal(int pidfd, int signal) {
  return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, (void *)0, 0);
}
int godwit_memfd_create(const char *name, unsigned int flags) { return memfd_create(name, flags); }
int godwit_is_shrink_sealed(int fd) {
  int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
}
int godwit_seal_shrink(int fd) { return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK); }
int godwit_reserve_space(int fd, off_t bytes) {
  return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes);
}
int godwit_setns(int fd, int type) { return setns(fd, type); }
int godwit_accept(int fd, void *address, unsigned int *length) {
  return accept4(fd, (struct sockaddr *)address, length, SOCK_CLOEXEC);
}
void godwit_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }
