/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgsim.c - volumes in the simulated world (sim/imgscene.h): one image, three nodes, a store that loses, repeats
 * and delays; daemons that are killed, lose their power, lose their disks, freeze and thaw, take over and hand over.
 *
 *	unit-imgsim [SEED [COUNT]]	TRACE=1 tells what happens
 */
#include "config.h"
#include "sim/imgscene.h"

int main(int argc, char **argv)
{
	int r;

	imgscene_setup();
	r = sim_main(argc, argv, 200, imgscene);
	imgscene_print();
	return r;
}
