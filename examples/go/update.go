package pericarp

/*
#include <pericarp.h>
#include <stdlib.h>
*/
import "C"

// Update changes limits of the pod as a whole while it runs, all or none. The resources are as in the specification of a
// pod; what they leave out keeps its value.
func (p *Pod) Update(resources any) error {
	text, free, err := marshal(resources)
	if err != nil {
		return err
	}
	defer free()
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_update_json(pod, text, err)
	})
}

// UpdateAll changes limits of the pod as a whole and of its containers, by their names: all, or none. Nil resources leave
// the pod's.
func (p *Pod) UpdateAll(resources any, containers map[string]any) error {
	if resources == nil {
		resources = struct{}{}
	}
	if containers == nil {
		containers = map[string]any{}
	}
	text, free, err := marshal(resources)
	if err != nil {
		return err
	}
	defer free()
	others, free, err := marshal(containers)
	if err != nil {
		return err
	}
	defer free()
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_update_all_json(pod, text, others, err)
	})
}

// Update changes limits of the container while it runs, all or none. The resources are as in its specification; what
// they leave out keeps its value.
func (c *Container) Update(resources any) error {
	text, free, err := marshal(resources)
	if err != nil {
		return err
	}
	defer free()
	return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_update_json(container, text, err)
	})
}

// UpdateDeviceRules replaces the rules for devices of the container while it runs, all at once. They are as deviceRules of
// its specification; nil are none but the default ones.
func (c *Container) UpdateDeviceRules(rules any) error {
	if rules == nil {
		rules = []any{}
	}
	text, free, err := marshal(rules)
	if err != nil {
		return err
	}
	defer free()
	return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_update_device_rules_json(container, text, err)
	})
}

// IsFrozen says whether the processes of the container stand still, because it or its pod was frozen.
func (c *Container) IsFrozen() (bool, error) {
	var frozen C.int
	err := c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_is_frozen(container, &frozen, err)
	})
	return frozen == 1, err
}

// IDMapping is a range of ids: so many from Container on are, outside, those from Host on.
type IDMapping struct {
	Container uint32 `json:"containerId"`
	Host      uint32 `json:"hostId"`
	Size      uint32 `json:"size"`
}

// IDMappings are the ids of a pod's user namespace.
type IDMappings struct {
	Users  []IDMapping `json:"uidMappings"`
	Groups []IDMapping `json:"gidMappings"`
}

// IDMappings tells the ids of the pod's user namespace. NotFound is the error for a pod that has the host's.
func (p *Pod) IDMappings() (IDMappings, error) {
	var mappings IDMappings
	err := p.handle.json(&mappings, func(pod *C.pericarp_pod_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_id_mappings(pod, text, err)
	})
	return mappings, err
}

// SetOOMScoreAdj makes the OOM killer take the processes of the container sooner (up to 1000) or later (down to -1000 for
// never): of all that run now, and of all that they start. A lower one than was set last takes CAP_SYS_RESOURCE.
func (c *Container) SetOOMScoreAdj(adjustment int) error {
	return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_set_oom_score_adj(container, C.int(adjustment), err)
	})
}
