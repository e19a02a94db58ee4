/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The text of intents: what is being renamed, by which node. Below .lsvd/intent/ of the mount; intent.c finds those of
 * nodes that died. A directory's paths end in '/', those of an image are of its name objects.
 */
#include "rename.h"
#include "meta/path.h"

int rename_intent_put(struct fsd *f, const char *from, const char *to, char **ret_key, struct objerr *err)
{
	char hex[33];
	char *text = NULL, *key = NULL;
	json_t *j;
	int r;

	base_random_hex(hex, 16);
	if (asprintf(&key, "%s" PATH_RESERVED "/intent/%s", f->o.prefix, hex) < 0)
		return -ENOMEM;
	j = json_pack("{s:i, s:s, s:s, s:s, s:s, s:I}", "version", 1, "what", "rename", "from", from, "to", to, "node",
		      f->o.node_id ? f->o.node_id : "", "time", (json_int_t)(clock_real_ns() / NSEC_PER_SEC));
	text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	r = text ? obj_put(f->o.store, key, text, strlen(text), NULL, false, NULL, NULL, err) : -ENOMEM;
	free(text);
	if (r < 0) {
		free(key);
		return r;
	}
	*ret_key = key;
	return 0;
}

/* "a/b/": what a directory of the mount can be called. */
static bool is_dir_path(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s += strcspn(s, "/") + 1)
		if (s[strcspn(s, "/")] != '/' || !path_component_ok(s, strcspn(s, "/")))
			return false;
	return true;
}

/* "a/b/x.lsvd": the name of an image. */
static bool is_image_path(const char *s)
{
	const char *slash = strrchr(s, '/'), *name = slash ? slash + 1 : s;
	_cleanup_free_ char *dir = strndup(s, (size_t)(name - s));

	return dir && (!*dir || is_dir_path(dir)) && path_component_ok(name, strlen(name)) &&
	       str_has_suffix(name, IMAGE_SUFFIX);
}

/* Anybody who may write to the bucket can have written it: a move into itself would end by deleting everything. */
int rename_intent_parse(const char *p, size_t n, char **ret_from, char **ret_to, char **ret_node)
{
	const char *from, *to, *node;
	json_t *j = json_loadb(p, n, JSON_REJECT_DUPLICATES, NULL);
	int version, r = -EBADMSG;

	if (j && json_unpack(j, "{s:i, s:s, s:s, s:s}", "version", &version, "from", &from, "to", &to, "node", &node) == 0 &&
	    version == 1 &&
	    ((is_dir_path(from) && is_dir_path(to) && !str_has_prefix(to, from) && !str_has_prefix(from, to)) ||
	     (is_image_path(from) && is_image_path(to) && strcmp(from, to) != 0))) {
		*ret_from = strdup(from);
		*ret_to = strdup(to);
		*ret_node = strdup(node);
		r = *ret_from && *ret_to && *ret_node ? 0 : -ENOMEM;
	}
	json_decref(j);
	return r;
}
