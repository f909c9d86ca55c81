#define _GNU_SOURCE 1
#include "CLinux.h"
#include <spawn.h>

int godwit_spawn_daemon_actions(void *actions, const char *directory) {
  int result = posix_spawn_file_actions_addclosefrom_np(actions, 3);
  return result ? result : posix_spawn_file_actions_addchdir_np(actions, directory);
}
short godwit_spawn_new_session(void) { return POSIX_SPAWN_SETSID; }
