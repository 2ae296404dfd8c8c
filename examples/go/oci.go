package pericarp

/*
#include <pericarp.h>
#include <stdlib.h>
*/
import "C"

import "encoding/json"

// Bundle is an OCI configuration (runtime-spec 1.0 to 1.3) that was read once, for the pod and the container of it.
type Bundle struct {
	handle *handle[C.pericarp_bundle_t]
	path   string
}

func newBundle(pointer *C.pericarp_bundle_t) *Bundle {
	return &Bundle{
		handle: newHandle(pointer, func(bundle *C.pericarp_bundle_t) { C.pericarp_bundle_unref(bundle) }),
		path:   C.GoString(C.pericarp_bundle_path(pointer)),
	}
}

// OpenBundle reads config.json in the directory of a bundle.
func OpenBundle(path string) (*Bundle, error) {
	text, free := cString(path)
	defer free()
	var pointer *C.pericarp_bundle_t
	if err := try(func(err **C.pericarp_error_t) C.int { return C.pericarp_bundle_open(text, &pointer, err) }); err != nil {
		return nil, err
	}
	return newBundle(pointer), nil
}

// ParseBundle takes a configuration itself: JSON text as json.RawMessage, or what encoding/json makes it of. Relative paths
// in it are relative to the directory.
func ParseBundle(config any, directory string) (*Bundle, error) {
	text, free, err := marshal(config)
	if err != nil {
		return nil, err
	}
	defer free()
	path, free := cString(directory)
	defer free()
	var pointer *C.pericarp_bundle_t
	err = try(func(err **C.pericarp_error_t) C.int { return C.pericarp_bundle_parse(text, path, &pointer, err) })
	if err != nil {
		return nil, err
	}
	return newBundle(pointer), nil
}

// Close gives the configuration back. What was made of it goes on.
func (b *Bundle) Close() error { return b.handle.close() }

// Path is the absolute path of its directory.
func (b *Bundle) Path() string { return b.path }

// Config reads the configuration, without what Warnings tells of, into a value, as json.Unmarshal does.
func (b *Bundle) Config(value any) error {
	return b.handle.json(value, func(bundle *C.pericarp_bundle_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_bundle_config(bundle, text, err)
	})
}

// Warnings tell what was left out of the configuration: names of capabilities that nobody knows.
func (b *Bundle) Warnings() ([]string, error) {
	var warnings []string
	err := b.handle.json(&warnings, func(bundle *C.pericarp_bundle_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_bundle_warnings(bundle, text, err)
	})
	return warnings, err
}

// PodSpec reads what the configuration says of the pod into a value, for Node.CreatePod.
func (b *Bundle) PodSpec(name string, value any) error {
	given, free := cString(name)
	defer free()
	return b.handle.json(value, func(bundle *C.pericarp_bundle_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_bundle_pod_spec(bundle, given, text, err)
	})
}

// ContainerSpec reads what the configuration says of the container into a value, for Pod.CreateContainer. The name in it is
// "main".
func (b *Bundle) ContainerSpec(value any) error {
	return b.handle.json(value, func(bundle *C.pericarp_bundle_t, text **C.char, err **C.pericarp_error_t) C.int {
		return C.pericarp_bundle_container_spec(bundle, text, err)
	})
}

// CreatePodOCI makes a pod as an OCI configuration says: its namespaces, host name, sysctls and cgroup.
func (n *Node) CreatePodOCI(bundle *Bundle, name string) (*Pod, error) {
	text, free := cString(name)
	defer free()
	var pointer *C.pericarp_pod_t
	err := bundle.handle.with(func(bundle *C.pericarp_bundle_t) error {
		return n.handle.use(func(node *C.pericarp_node_t, err **C.pericarp_error_t) C.int {
			return C.pericarp_node_create_pod_oci(node, bundle, text, &pointer, err)
		})
	})
	if err != nil {
		return nil, err
	}
	return newPod(pointer), nil
}

// CreateContainerOCI makes a container as an OCI configuration says, with open files as its streams. The pod may be any.
func (p *Pod) CreateContainerOCI(bundle *Bundle, name string, streams Streams) (*Container, error) {
	text, free := cString(name)
	defer free()
	var pointer *C.pericarp_container_t
	err := streams.use(func(stdio *C.pericarp_stdio_t) error {
		return bundle.handle.with(func(bundle *C.pericarp_bundle_t) error {
			return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
				return C.pericarp_pod_create_container_oci(pod, bundle, text, stdio, &pointer, err)
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return newContainer(pointer), nil
}

// ExecOCI runs another program in the container as the "process" of an OCI configuration says, with open files as its
// streams.
func (c *Container) ExecOCI(process any, streams Streams) (*Process, error) {
	text, free, err := marshal(process)
	if err != nil {
		return nil, err
	}
	defer free()
	var pointer *C.pericarp_process_t
	err = streams.use(func(stdio *C.pericarp_stdio_t) error {
		return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
			return C.pericarp_container_exec_oci(container, text, stdio, &pointer, err)
		})
	})
	if err != nil {
		return nil, err
	}
	return newProcess(pointer), nil
}

// UpdateOCI changes limits of the pod as a whole while it runs, as "linux.resources" of an OCI configuration says.
func (p *Pod) UpdateOCI(resources any) error {
	text, free, err := marshal(resources)
	if err != nil {
		return err
	}
	defer free()
	return p.handle.use(func(pod *C.pericarp_pod_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_pod_update_oci(pod, text, err)
	})
}

// UpdateOCI changes limits of the container while it runs, as "linux.resources" of an OCI configuration says, and then its
// rules for devices, unless there are none.
func (c *Container) UpdateOCI(resources any) error {
	text, free, err := marshal(resources)
	if err != nil {
		return err
	}
	defer free()
	return c.handle.use(func(container *C.pericarp_container_t, err **C.pericarp_error_t) C.int {
		return C.pericarp_container_update_oci(container, text, err)
	})
}

// OCIFeatures reads what of the OCI runtime specification is there into a value, as json.Unmarshal does.
func OCIFeatures(value any) error {
	var text *C.char
	if err := try(func(err **C.pericarp_error_t) C.int { return C.pericarp_oci_features(&text, err) }); err != nil {
		return err
	}
	defer C.pericarp_string_free(text)
	return json.Unmarshal([]byte(C.GoString(text)), value)
}
