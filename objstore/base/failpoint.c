/* SPDX-License-Identifier: GPL-3.0-or-later */
/* failpoint.c - SIGKILL at a named place; see failpoint.h. No rank: the lock here is a leaf and may be taken anywhere. */
#include "config.h"
#include "failpoint.h"

#ifdef LSVD_DEBUG
#include "str.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t fp_lock = PTHREAD_MUTEX_INITIALIZER;
static bool fp_ready;		/* under fp_lock: the environment was read */
static _Atomic bool fp_active;	/* false: nothing to do, the usual case */
static char fp_name[128];	/* under fp_lock */
static uint64_t fp_left;	/* under fp_lock: passages until the kill; 0 = none */
static char *fp_list_path;	/* under fp_lock */
static char *fp_seen[512];	/* under fp_lock: names already listed */

static void arm_locked(const char *spec)
{
	uint64_t count = 1;
	const char *colon = spec ? strrchr(spec, ':') : NULL;
	size_t n = spec ? strlen(spec) : 0;

	fp_left = 0;
	if (colon && str_parse_u64(colon + 1, &count) == 0)
		n = (size_t)(colon - spec);
	if (n > 0 && n < sizeof(fp_name)) {
		memcpy(fp_name, spec, n);
		fp_name[n] = 0;
		fp_left = count ? count : 1;
	}
	atomic_store(&fp_active, fp_left > 0 || fp_list_path);
}

static void read_env_locked(void)
{
	const char *list = getenv("LSVD_FAILPOINT_LIST");

	if (fp_ready)
		return;
	fp_ready = true;
	if (list && *list)
		fp_list_path = strdup(list);
	arm_locked(getenv("LSVD_FAILPOINT"));
}

void failpoint_arm(const char *spec)
{
	pthread_mutex_lock(&fp_lock);
	read_env_locked();
	arm_locked(spec);
	pthread_mutex_unlock(&fp_lock);
}

static void list_locked(const char *name)
{
	_cleanup_close_ int fd = -1;
	struct str line = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(fp_seen); i++) {
		if (fp_seen[i] && strcmp(fp_seen[i], name) == 0)
			return;
		if (!fp_seen[i]) {
			fp_seen[i] = strdup(name);
			break;
		}
	}
	str_addf(&line, "%s\n", name);
	fd = open(fp_list_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0 || line.err || write(fd, line.p, line.len) < 0)
		perror("LSVD_FAILPOINT_LIST");
	str_free(&line);
}

void failpoint_hit(const char *name)
{
	static _Atomic bool once;

	if (atomic_load(&once) && !atomic_load(&fp_active))
		return;
	pthread_mutex_lock(&fp_lock);
	read_env_locked();
	atomic_store(&once, true);
	if (fp_list_path)
		list_locked(name);
	if (fp_left > 0 && strcmp(fp_name, name) == 0 && --fp_left == 0)
		raise(SIGKILL);
	pthread_mutex_unlock(&fp_lock);
}
#else
/* ISO C wants a declaration in every file. */
extern int failpoint_unused;
#endif
