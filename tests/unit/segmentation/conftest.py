"""Networks with weights that nobody trained, and their folders."""

import pytest
import torch

from cocuyo.segmentation.networks import OutlineNetwork, TemporalNetwork, UNet
from cocuyo.segmentation.weights import save_networks, save_outline_network

N_CHANNELS, VIEW_SIDE = 3, 12


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small networks gain nothing from threads, which wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fill(network):
    """Give batch norm statistics as after a training; fresh ones would hide their loss."""
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        else:
            buffer.fill_(7)
    return network.eval()


@pytest.fixture(scope="session")
def networks_of():
    """Build both networks of some settings; the same settings give the same weights."""

    def build(config, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            unet, temporal = UNet(config.unet), TemporalNetwork(config.temporal)
            with torch.no_grad():
                return fill(unet), fill(temporal)

    return build


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory, networks_of):
    """Save the networks of some settings; written once, not to be changed."""
    folders = {}

    def save(config):
        key = config.model_dump_json()
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("networks")
            save_networks(folders[key], *networks_of(config), config)
            if config.outline is not None:
                with torch.random.fork_rng():
                    torch.manual_seed(0)
                    network = fill(OutlineNetwork(N_CHANNELS, config.outline))
                save_outline_network(folders[key], network, view_side=VIEW_SIDE)
        return folders[key]

    return save
