#define _GNU_SOURCE 1
#include "CLinux.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

long godwit_read_at_once(int fd, void *buffer, unsigned long size, off_t offset) {
  struct iovec part = {buffer, size};
  return preadv2(fd, &part, 1, offset, RWF_NOWAIT);
}
long godwit_write_durably(int fd, const void *buffer, unsigned long size, off_t offset) {
  struct iovec part = {(void *)buffer, size};
  return pwritev2(fd, &part, 1, offset, RWF_DSYNC);
}
int godwit_zero_range(int fd, off_t offset, off_t size, int keeps_space) {
  int mode = keeps_space ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
  return fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, offset, size);
}
off_t godwit_seek_data(int fd, off_t offset, int wants_hole) {
  return lseek(fd, offset, wants_hole ? SEEK_HOLE : SEEK_DATA);
}
int godwit_birth_time(const char *path, long long *nanoseconds) {
  struct statx found;
  if (statx(AT_FDCWD, path, 0, STATX_BTIME, &found) != 0) return -1;
  if (!(found.stx_mask & STATX_BTIME)) {
    errno = ENOTSUP;
    return -1;
  }
  *nanoseconds = found.stx_btime.tv_sec * 1000000000LL + found.stx_btime.tv_nsec;
  return 0;
}
int godwit_open_direct(void) { return O_DIRECT; }
int godwit_lock_byte(int fd, off_t byte) {
  struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
  return fcntl(fd, F_OFD_SETLK, &lock);
}
void godwit_unlock_bytes(int fd) {
  struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
  fcntl(fd, F_OFD_SETLK, &all);
}
int godwit_is_byte_locked(int fd, off_t byte) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
  return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}
