// SPDX-License-Identifier: GPL-2.0

#include <linux/sched.h>
#include <linux/workqueue.h>

void hf_init_delayed_work(struct delayed_work *dwork, work_func_t func)
{
	INIT_DELAYED_WORK(dwork, func);
}

void hf_queue_delayed_work(struct delayed_work *dwork, unsigned long delay)
{
	queue_delayed_work(system_dfl_wq, dwork, delay);
}

void hf_mod_delayed_work(struct delayed_work *dwork, unsigned long delay)
{
	mod_delayed_work(system_dfl_wq, dwork, delay);
}

struct delayed_work *hf_to_delayed_work(struct work_struct *work)
{
	return to_delayed_work(work);
}

void hf_cond_resched(void)
{
	cond_resched();
}
