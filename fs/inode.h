/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_INODE_H
#define LSVD_INODE_H
#endif
