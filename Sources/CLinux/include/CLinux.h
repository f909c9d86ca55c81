// System calls that Swift cannot call by itself: variadic ones and GNU extensions. Nothing else lives here.
#pragma once
#include <sys/types.h>

/// A file descriptor that becomes readable when the process ends; -1 with errno on failure.
int godwit_pidfd_open(pid_t pid);
/// Sends a signal through a pidfd; -1 with errno on failure.
int godwit_pidfd_send_signal(int pidfd, int signal);
int godwit_memfd_create(const char *name, unsigned int flags);
/// 1 where the seals keep the file from shrinking, 0 elsewhere.
int godwit_is_shrink_sealed(int fd);
/// Forbids shrinking of a memfd; -1 with errno on failure.
int godwit_seal_shrink(int fd);
/// Takes blocks for the first `bytes` bytes of a file whose size stays; -1 with errno on failure.
int godwit_reserve_space(int fd, off_t bytes);
/// Takes the calling thread into a namespace; -1 with errno on failure.
int godwit_setns(int fd, int type);
/// Accepts a connection, close-on-exec; the peer's address goes to `address`.
int godwit_accept(int fd, void *address, unsigned int *length);
void godwit_name_thread(const char *name);
/// Adds to a `posix_spawn_file_actions_t`: close all from 3 on, change the directory. 0 or an errno.
int godwit_spawn_daemon_actions(void *actions, const char *directory);
/// `POSIX_SPAWN_SETSID`.
short godwit_spawn_new_session(void);
/// The processors that a thread may use, as `size` bytes of bits; how many bytes the kernel knows, or -1
/// with errno.
long godwit_get_affinity(pid_t thread, void *mask, unsigned long size);
/// -1 with errno on failure.
int godwit_set_affinity(pid_t thread, const void *mask, unsigned long size);

/// When a file was made, in nanoseconds since 1970: 0, or -1 with errno, ENOTSUP where the file system doesn't say.
int godwit_birth_time(const char *path, long long *nanoseconds);

/// Reads what is in memory already: bytes read, or -1 with errno: EAGAIN where a device would be waited
/// for, EOPNOTSUPP where the file system can't tell.
long godwit_read_at_once(int fd, void *buffer, unsigned long size, off_t offset);
/// Writes, and returns once the bytes are on stable storage; -1 with errno on failure.
long godwit_write_durably(int fd, const void *buffer, unsigned long size, off_t offset);
/// Makes a hole, or with `keeps_space` zeros that keep their space; never waits for zeros to be
/// written out. 0, or -1 with errno: EOPNOTSUPP where the file can't.
int godwit_zero_range(int fd, off_t offset, off_t size, int keeps_space);
/// The next byte that isn't in a hole (`wants_hole`: that is), or -1 with errno: ENXIO for none.
off_t godwit_seek_data(int fd, off_t offset, int wants_hole);
/// `O_DIRECT`.
int godwit_open_direct(void);
/// Takes a read lock on one byte that belongs to the open file, not to the process; 0, or -1 with errno.
int godwit_lock_byte(int fd, off_t byte);
/// Gives back all locks of the open file, whoever else has it open.
void godwit_unlock_bytes(int fd);
/// 1 when somebody else has a lock on that byte, 0 when nobody has.
int godwit_is_byte_locked(int fd, off_t byte);
