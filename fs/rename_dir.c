/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "rename.h"
int rename_dir(struct fsd *f, struct inode *i, struct inode *sp, const char *sname, struct inode *dst,
	       struct inode *dp, const char *dname, bool noreplace, struct objerr *err)
{
	return -EXDEV;
}
