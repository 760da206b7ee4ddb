// SPDX-License-Identifier: GPL-2.0

#include <linux/percpu.h>

void hf_this_cpu_add_u64(u64 __percpu *counter, u64 n)
{
	this_cpu_add(*counter, n);
}

u64 *hf_per_cpu_ptr_u64(u64 __percpu *counter, int cpu)
{
	return per_cpu_ptr(counter, cpu);
}

unsigned int hf_cpumask_next_possible(int cpu)
{
	return cpumask_next(cpu, cpu_possible_mask);
}

unsigned int hf_nr_cpu_ids(void)
{
	return nr_cpu_ids;
}
