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
