/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_S3XML_H
#define LSVD_S3XML_H
#endif
